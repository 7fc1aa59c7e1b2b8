/* SPDX-License-Identifier: BSD-3-Clause */
/* File systems that have no locks: images are opened all the same, and it is said, once a chain. */
#include "common/live/live.h"
#include "tests/rigs/qcow2-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In place of the C library's. */
int fcntl(int fd, int command, ...)
{
    va_list args;
    void *arg;

    va_start(args, command);
    arg = va_arg(args, void *);
    va_end(args);
    if (command == F_OFD_SETLK || command == F_OFD_GETLK) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, arg);
}

/* What was said. */
struct said {
    unsigned times;
    char first[1024];
};

static void tell(void *opaque, const char *sentence)
{
    struct said *said = opaque;

    if (said->times++ == 0)
        g_strlcpy(said->first, sentence, sizeof(said->first));
}

static bool begin(struct qcow2_rig *r)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r, "qemu-img create -q -f qcow2 base 1M && "
                     "qemu-img create -q -f qcow2 -o data_file=d.raw -b base -F qcow2 top");
    return true;
}

static void assert_said(const struct said *said, const char *path)
{
    g_assert_cmpuint(said->times, ==, 1);
    if (!g_str_has_prefix(said->first, path) || !strstr(said->first, "no image locks here"))
        g_error("there are no locks, not: %s", said->first);
}

static void test_chain(void)
{
    g_autofree char *path = NULL;
    struct q2_open_options o = {.tell = tell};
    struct q2_image *image;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    path = qcow2_rig_path(&r, "top");
    for (int i = 0; i < 4; i++) {
        struct said said = {0};

        o.writable = i % 2;
        o.locking = i < 2;
        o.opaque = &said;
        image = q2_image_open_with(path, &o, NULL);
        g_assert_nonnull(image);
        q2_image_close(image);
        if (o.locking)
            assert_said(&said, path);
        else
            g_assert_cmpuint(said.times, ==, 0);
    }
    qcow2_rig_end(&r);
}

static void test_live(void)
{
    g_autofree char *path = NULL;
    struct live_options o = LIVE_OPTIONS_INIT;
    struct said said = {0};
    struct live_image *image;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    path = qcow2_rig_path(&r, "top");
    o.writable = true;
    o.tell = tell;
    o.opaque = &said;
    image = live_open(path, &o, NULL);
    g_assert_nonnull(image);
    assert_said(&said, path);
    g_assert_cmpint(live_close(image, NULL), ==, 0);
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/no-locks/chain", test_chain);
    g_test_add_func("/no-locks/live", test_live);
    return g_test_run();
}
