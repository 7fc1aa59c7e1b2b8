/* SPDX-License-Identifier: BSD-3-Clause */
/* QEMU's locks on all files of a chain: QEMU keeps off what we have, we keep off what QEMU has, and
 * overlays share their backing files, whoever has them. */
#include "common/live/live.h"
#include "tests/rigs/qcow2-rig.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* a and b over base, with data; d with a data file over base. */
static bool begin(struct qcow2_rig *r)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(
        r, "qemu-img create -q -f qcow2 base 1M && qemu-io -f qcow2 -c 'write -q 0 1M' base && "
           "qemu-img create -q -f qcow2 -b base -F qcow2 a && "
           "qemu-img create -q -f qcow2 -b base -F qcow2 b && "
           "qemu-img create -q -f qcow2 -o data_file=d.raw -b base -F qcow2 d");
    return true;
}

/* ---- we ---- */

static struct live_image *try_open(const struct qcow2_rig *r, const char *name, bool writable,
                                   struct q2_error *err)
{
    g_autofree char *path = qcow2_rig_path(r, name);

    return live_open(path, &(struct live_options){.writable = writable, .locking = true}, err);
}

static struct live_image *open_image(const struct qcow2_rig *r, const char *name, bool writable)
{
    struct q2_error err;
    struct live_image *image = try_open(r, name, writable, &err);

    if (!image)
        g_error("%s", err.text);
    return image;
}

/* Refused, because of `file`. */
static void assert_locked(const struct qcow2_rig *r, const char *name, bool writable,
                          const char *file)
{
    g_autofree char *path = qcow2_rig_path(r, file);
    struct q2_error err = {0, ""};

    g_assert_null(try_open(r, name, writable, &err));
    g_assert_cmpint(err.number, ==, EBUSY);
    if (!g_str_has_prefix(err.text, path) || !strstr(err.text, "QEMU or another server"))
        g_error("%s is locked, not: %s", path, err.text);
}

static void assert_writes(struct live_image *image)
{
    g_assert_cmpint(live_pwrite(image, "x", 1, 70000, 0), ==, 0);
    g_assert_cmpint(live_flush(image), ==, 0);
}

/* ---- QEMU ---- */

static void qemu_can(const struct qcow2_rig *r, const char *options, const char *name,
                     const char *command)
{
    qcow2_rig_run(r, "qemu-io %s -c '%s' %s", options, command, name);
}

static void qemu_cannot(const struct qcow2_rig *r, const char *options, const char *name,
                        const char *command)
{
    g_autofree char *said =
        qcow2_rig_output(r, 1, "qemu-io %s -c '%s' %s 2>&1", options, command, name);

    if (!strstr(said, "lock"))
        g_error("no word of locks: %s", said);
}

/* A qemu-io that has an image open until it is told to end. */
struct qemu {
    GPid pid;
    int in, out;
};

static struct qemu qemu_open(const struct qcow2_rig *r, const char *options, const char *name)
{
    g_autofree char *command = g_strdup_printf("exec qemu-io %s %s", options, name);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    g_autoptr(GError) err = NULL;
    g_autoptr(GString) said = g_string_new("");
    struct qemu q;
    char c;

    g_spawn_async_with_pipes(r->folder, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                             &q.pid, &q.in, &q.out, NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpint(write(q.in, "length\n", 7), ==, 7);
    /* Its answer says that it is open. */
    while (read(q.out, &c, 1) == 1 && !strstr(said->str, "MiB"))
        g_string_append_c(said, c);
    g_assert_nonnull(strstr(said->str, "MiB"));
    return q;
}

static void qemu_close(struct qemu *q)
{
    int status;

    close(q->in);
    g_assert_cmpint(waitpid(q->pid, &status, 0), ==, q->pid);
    close(q->out);
}

/* ---- what goes together ---- */

static void test_we_write(void)
{
    struct live_image *image;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    image = open_image(&r, "a", true);
    qemu_cannot(&r, "-f qcow2", "a", "write 0 512");
    qemu_cannot(&r, "-r -f qcow2", "a", "read 0 512");
    qemu_can(&r, "-U -r -f qcow2", "a", "read 0 512");
    assert_locked(&r, "a", true, "a");
    assert_locked(&r, "a", false, "a");
    /* Below. */
    qemu_cannot(&r, "-f qcow2", "base", "write 0 512");
    assert_locked(&r, "base", true, "base");
    qemu_can(&r, "-r -f qcow2", "base", "read 0 512");
    live_close(open_image(&r, "base", false), NULL);
    assert_writes(image);
    g_assert_cmpint(live_close(image, NULL), ==, 0);
    qemu_can(&r, "-f qcow2", "a", "write 0 512");
    qemu_can(&r, "-f qcow2", "base", "write 0 512");
    live_close(open_image(&r, "a", true), NULL);
    qcow2_rig_end(&r);
}

static void test_we_read(void)
{
    struct live_image *image, *other;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    image = open_image(&r, "a", false);
    other = open_image(&r, "a", false);
    qemu_can(&r, "-r -f qcow2", "a", "read 0 512");
    qemu_cannot(&r, "-f qcow2", "a", "write 0 512");
    assert_locked(&r, "a", true, "a");
    live_close(image, NULL);
    qemu_cannot(&r, "-f qcow2", "a", "write 0 512");
    live_close(other, NULL);
    qemu_can(&r, "-f qcow2", "a", "write 0 512");
    qcow2_rig_end(&r);
}

/* Two overlays of one file: both ours, or one of QEMU's that was opened before, or after. */
static void test_shared_base(void)
{
    struct live_image *a, *b;
    struct qcow2_rig r;
    struct qemu q;

    if (!begin(&r))
        return;
    a = open_image(&r, "a", true);
    b = open_image(&r, "b", true);
    assert_writes(a);
    assert_writes(b);
    live_close(b, NULL);
    q = qemu_open(&r, "-f qcow2", "b");
    qemu_can(&r, "-r -f qcow2", "base", "read 0 512");
    assert_writes(a);
    live_close(a, NULL);
    a = open_image(&r, "a", true);
    assert_writes(a);
    assert_locked(&r, "b", true, "b");
    assert_locked(&r, "base", true, "base");
    qemu_close(&q);
    live_close(a, NULL);
    qcow2_rig_end(&r);
}

static void test_qemu_has_it(void)
{
    struct live_options unlocked = {.writable = true, .locking = false};
    g_autofree char *path = NULL;
    struct live_image *image;
    struct q2_error err;
    struct qcow2_rig r;
    struct qemu q;

    if (!begin(&r))
        return;
    q = qemu_open(&r, "-f qcow2", "a");
    assert_locked(&r, "a", true, "a");
    assert_locked(&r, "a", false, "a");
    path = qcow2_rig_path(&r, "a");
    image = live_open(path, &unlocked, &err);
    g_assert_nonnull(image);
    live_close(image, NULL);
    qemu_close(&q);
    q = qemu_open(&r, "-f qcow2", "base");
    assert_locked(&r, "a", true, "base");
    assert_locked(&r, "a", false, "base");
    qemu_close(&q);
    q = qemu_open(&r, "-r -f qcow2", "base");
    live_close(open_image(&r, "a", true), NULL);
    assert_locked(&r, "base", true, "base");
    qemu_close(&q);
    live_close(open_image(&r, "base", true), NULL);
    qcow2_rig_end(&r);
}

static void test_data_file(void)
{
    struct live_image *image;
    struct qcow2_rig r;
    struct qemu q;

    if (!begin(&r))
        return;
    image = open_image(&r, "d", true);
    qemu_cannot(&r, "-f raw", "d.raw", "write 0 512");
    qemu_cannot(&r, "-f qcow2", "d", "write 0 512");
    live_close(image, NULL);
    image = open_image(&r, "d", false);
    qemu_cannot(&r, "-f raw", "d.raw", "write 0 512");
    qemu_can(&r, "-r -f raw", "d.raw", "read 0 512");
    live_close(image, NULL);
    q = qemu_open(&r, "-f raw", "d.raw");
    assert_locked(&r, "d", true, "d.raw");
    assert_locked(&r, "d", false, "d.raw");
    qemu_close(&q);
    live_close(open_image(&r, "d", true), NULL);
    qcow2_rig_end(&r);
}

/* An image that is refused leaves no lock. */
static void test_refused(void)
{
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r))
        return;

    qcow2_rig_put(&r, "a", 72, 8, Q2_INCOMPATIBLE_CORRUPT);
    g_assert_null(try_open(&r, "a", true, &err));
    g_assert_cmpint(err.number, ==, 0);
    qemu_can(&r, "-f qcow2", "base", "write 0 512");
    qcow2_rig_run(&r, "rm base");
    g_assert_null(try_open(&r, "b", true, &err));
    g_assert_cmpint(err.number, ==, ENOENT);
    qcow2_rig_run(&r, "qemu-img rebase -u -b '' b");
    qemu_can(&r, "-f qcow2", "b", "write 0 512");
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/locks/we-write", test_we_write);
    g_test_add_func("/locks/we-read", test_we_read);
    g_test_add_func("/locks/shared-base", test_shared_base);
    g_test_add_func("/locks/qemu-has-it", test_qemu_has_it);
    g_test_add_func("/locks/data-file", test_data_file);
    g_test_add_func("/locks/refused", test_refused);
    return g_test_run();
}
