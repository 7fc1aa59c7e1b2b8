/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/backend/loop.h"

#include "tests/backend/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOOP_MAJOR 7
/* How often others may be quicker before it is an error. */
#define ATTEMPTS 10000

/* The path of device `number`, in /dev or of a node that is made for it. g_free() it. */
static char *node_of(int number)
{
    char *path = g_strdup_printf("/dev/loop%d", number);

    if (g_access(path, F_OK) == 0)
        return path;
    g_free(path);
    path = g_strdup_printf("%s/loop%d", harness_dir(), number);
    (void)mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)number));
    return path;
}

/* One attempt: 0, or a negative errno. */
static int take(struct loop *l, int control, const struct loop_config *config)
{
    int number = ioctl(control, LOOP_CTL_GET_FREE);

    if (number < 0)
        return -errno;
    l->path = node_of(number);
    l->fd = open(l->path, O_RDWR | O_CLOEXEC);
    if (l->fd >= 0 && ioctl(l->fd, LOOP_CONFIGURE, config) == 0)
        return 0;
    int error = errno;
    if (l->fd >= 0)
        close(l->fd);
    g_free(l->path);
    return -error;
}

/* Does this error mean that somebody else was quicker? */
static bool was_late(int error)
{
    return error == -EBUSY || error == -ENXIO;
}

bool loop_take(struct loop *l, const char *backing, uint32_t sector, bool readonly)
{
    struct loop_config config = {.block_size = sector};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int fd = open(backing, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    int error = control < 0 ? -errno : -EBUSY;

    g_assert_cmpint(fd, >=, 0);
    config.fd = (uint32_t)fd;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (readonly ? LO_FLAGS_READ_ONLY : 0);
    for (int i = 0; control >= 0 && was_late(error) && i < ATTEMPTS; i++) {
        error = take(l, control, &config);
        if (was_late(error))
            sched_yield();
    }
    close(fd);
    if (control >= 0)
        close(control);
    if (error == 0)
        return true;
    g_assert_false(was_late(error)); /* that is no reason to skip a test */
    g_autofree char *reason = g_strdup_printf("no loop device to be had: %s", g_strerror(-error));
    g_test_skip(reason);
    return false;
}

void loop_release(struct loop *l)
{
    close(l->fd);
    g_free(l->path);
}
