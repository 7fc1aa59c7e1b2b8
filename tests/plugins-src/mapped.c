/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A plugin whose bytes lie in a file (path=PATH, 8 MiB) in another order, as it tells by
 * nbdfleece_plugin_map. Of four pieces of 128 KiB each, two are told, one only for reading, and one is
 * zeroes until it is written; then its callbacks alone know it. With alone=TRUE the callbacks refuse what the map has
 * told. With answer=N, length=N, host=N, fd=N, place=N the map says that instead, of everything.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "plugins/nbdfleece-plugin.h"

#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define PIECE        (128u << 10)
#define PIECES       64u
#define SIZE         (PIECE * PIECES)

enum kind { TOLD, ALSO_TOLD, TO_READ, ZEROES };

static char *path;
static int file = -1, alone, model = THREAD_MODEL;
static atomic_bool written[PIECES];

static struct {
    const char *key;
    bool given;
    int64_t value;
} lies[] = {{"answer", false, 0},
            {"length", false, 0},
            {"host", false, 0},
            {"fd", false, 0},
            {"place", false, 0}};
#define LIES (sizeof lies / sizeof *lies)

static enum kind kind_of(uint64_t offset)
{
    return offset / PIECE % 4;
}

/* The last piece comes first. */
static uint64_t host_of(uint64_t offset)
{
    return (PIECES - 1 - offset / PIECE) * PIECE + offset % PIECE;
}

static uint64_t run_of(uint64_t offset, uint64_t length)
{
    uint64_t run = PIECE - offset % PIECE;

    return run < length ? run : length;
}

static int mapped_config(const char *key, const char *value)
{
    if (!strcmp(key, "path")) {
        path = nbdkit_realpath(value);
        return path ? 0 : -1;
    }
    if (!strcmp(key, "alone"))
        return (alone = nbdkit_parse_bool(value)) < 0 ? -1 : 0;
    if (!strcmp(key, "model"))
        return nbdkit_parse_int(key, value, &model);
    for (size_t i = 0; i < LIES; i++) {
        if (!strcmp(key, lies[i].key)) {
            lies[i].given = true;
            return nbdkit_parse_int64_t(key, value, &lies[i].value);
        }
    }
    nbdkit_error("unknown key");
    return -1;
}

static int mapped_thread_model(void)
{
    return model;
}

static void mapped_unload(void)
{
    if (file >= 0)
        close(file);
    free(path);
}

static int mapped_get_ready(void)
{
    file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        nbdkit_error("%s: %m", path);
    return file < 0 ? -1 : 0;
}

static void *mapped_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t mapped_get_size(void *handle)
{
    return SIZE;
}

static int yes(void *handle)
{
    return 1;
}

static int refuse(const char *what, uint64_t offset)
{
    if (!alone || kind_of(offset) > ALSO_TOLD)
        return 0;
    nbdkit_error("%s at %" PRIu64 ": the map has told where that is", what, offset);
    return -1;
}

static int mapped_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    char *p = buf;

    for (uint64_t n; count > 0; p += n, offset += n, count -= (uint32_t)n) {
        n = run_of(offset, count);
        if (refuse("pread", offset) < 0 || pread(file, p, n, (off_t)host_of(offset)) != (ssize_t)n)
            return -1;
    }
    return 0;
}

static int mapped_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    const char *p = buf;

    for (uint64_t n; count > 0; p += n, offset += n, count -= (uint32_t)n) {
        n = run_of(offset, count);
        if (refuse("pwrite", offset) < 0)
            return -1;
        if (pwrite(file, p, n, (off_t)host_of(offset)) != (ssize_t)n)
            return -1;
        atomic_store(&written[offset / PIECE], true);
    }
    return 0;
}

static int mapped_flush(void *handle, uint32_t flags)
{
    return fdatasync(file);
}

int nbdfleece_plugin_map(void *handle, uint64_t offset, uint64_t length, int writing,
                         struct nbdfleece_segment *s, size_t size)
{
    if (size != sizeof *s || s->length != 0 || s->place != NBDFLEECE_UNKNOWN || offset > SIZE ||
        length == 0 || length > SIZE - offset)
        abort();
    s->length = run_of(offset, length);
    s->offset = host_of(offset);
    s->fd = file;
    bool told = kind_of(offset) <= ALSO_TOLD || (kind_of(offset) == TO_READ && !writing);
    s->place = told ? NBDFLEECE_DATA : NBDFLEECE_UNKNOWN;
    if (kind_of(offset) == ZEROES && !atomic_load(&written[offset / PIECE]) && !writing)
        s->place = NBDFLEECE_ZERO;
    if (lies[1].given)
        s->length = (uint64_t)lies[1].value;
    if (lies[2].given)
        s->offset = (uint64_t)lies[2].value;
    if (lies[3].given)
        s->fd = (int)lies[3].value;
    if (lies[4].given)
        s->place = (int)lies[4].value;
    return lies[0].given ? (int)lies[0].value : 0;
}

static struct nbdkit_plugin plugin = {
    .name = "mapped",
    .unload = mapped_unload,
    .config = mapped_config,
    .thread_model = mapped_thread_model,
    .get_ready = mapped_get_ready,
    .open = mapped_open,
    .get_size = mapped_get_size,
    .can_multi_conn = yes,
    .pread = mapped_pread,
    .pwrite = mapped_pwrite,
    .flush = mapped_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
