/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 1 MiB of memory whose reads and writes at offset 0, and a resize to 2 MiB, do not come back until
 * the test says so, if ever: what a dead NFS server or a lost path to a device looks like.
 *
 *   begun=FIFO   gets a line with the name of each such call when it begins
 *   go=FIFO      a byte from it lets one call go on; without go= they never come back
 *   notes=FILE   gets a line for each other write, flush, close and unload, in order
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SPACE        (2 << 20)

static char disk[SPACE];
static int64_t size = 1 << 20;
static int begun = -1, go = -1, notes = -1;

/* A FIFO is opened for reading and writing, so that neither side waits for the other to open it. */
static int stuck_config(const char *key, const char *value)
{
    int *fd = !strcmp(key, "begun") ? &begun : !strcmp(key, "go") ? &go : &notes;

    if (fd == &notes && strcmp(key, "notes")) {
        nbdkit_error("what is '%s'?", key);
        return -1;
    }
    *fd = open(value, O_RDWR | O_APPEND | O_CLOEXEC);
    if (*fd < 0) {
        nbdkit_error("%s: %s", value, strerror(errno));
        return -1;
    }
    return 0;
}

static void tell(int fd, const char *line)
{
    if (fd >= 0 && write(fd, line, strlen(line)) < 0)
        abort();
}

static void be_stuck(const char *line)
{
    char byte;

    tell(begun, line);
    while (go < 0)
        pause();
    while (read(go, &byte, 1) != 1)
        ;
}

static void *stuck_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t stuck_get_size(void *handle)
{
    return size;
}

static int stuck_can_multi_conn(void *handle)
{
    return 1;
}

static int stuck_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    if (offset == 0)
        be_stuck("pread\n");
    memcpy(buf, disk + offset, count);
    return 0;
}

static int stuck_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                        uint32_t flags)
{
    if (offset == 0)
        be_stuck("pwrite\n");
    memcpy(disk + offset, buf, count);
    tell(notes, "pwrite\n");
    return 0;
}

static int stuck_flush(void *handle, uint32_t flags)
{
    tell(notes, "flush\n");
    return 0;
}

static void stuck_close(void *handle)
{
    tell(notes, "close\n");
}

static void stuck_unload(void)
{
    tell(notes, "unload\n");
}

int nbdfleece_plugin_resize(void *handle, uint64_t new_size);
int nbdfleece_plugin_resize(void *handle, uint64_t new_size)
{
    if (new_size > SPACE) {
        nbdkit_error("too large");
        return -1;
    }
    if (new_size == SPACE)
        be_stuck("resize\n");
    size = (int64_t)new_size;
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "stuck",
    .config = stuck_config,
    .unload = stuck_unload,
    .open = stuck_open,
    .close = stuck_close,
    .get_size = stuck_get_size,
    .can_multi_conn = stuck_can_multi_conn,
    .pread = stuck_pread,
    .pwrite = stuck_pwrite,
    .flush = stuck_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
