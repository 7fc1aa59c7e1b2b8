/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-change.h"

#include "common/live/live-ops.h"
#include "common/live/live-reserve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Most entries of a slice of 4 KiB. */
#define ENTRIES_MAX 512

/* Zeroes that are written at once, where the file system does not make them. */
#define ZEROES_MAX ((size_t)1 << 20)

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The disk's end, where that comes first. */
static uint64_t inside(const struct live_change *c, uint64_t end)
{
    return smaller(end, atomic_load(&c->top->size));
}

struct live_span live_change_span(const struct live_change *c, uint64_t offset, uint64_t length)
{
    uint64_t cluster = c->top->cluster, first = offset / cluster;
    uint64_t n = (offset + length + cluster - 1) / cluster - first;

    n = smaller(smaller(n, live_slices_room(c->top, first)), ENTRIES_MAX);
    return (struct live_span){first, (unsigned)n, offset,
                              smaller(offset + length, (first + n) * cluster)};
}

int live_change_zero_below(const struct live_change *c, uint64_t offset, uint64_t length)
{
    return live_layer_is_zero(c->top->backing, inside(c, offset + length) - offset, offset);
}

int live_change_clear(struct live_file *f, uint64_t length, uint64_t host, bool hole)
{
    uint64_t size = atomic_load(&f->size);

    /* What is behind the file's end reads as zeroes. */
    if (host >= size)
        return 0;
    return live_file_zero(f, smaller(length, size - host), host, hole);
}

static int put_zeroes(struct live_file *f, uint64_t length, uint64_t host)
{
    int error = live_change_clear(f, length, host, false);
    size_t room = (size_t)smaller(length, ZEROES_MAX);
    char *zeroes;

    if (error != -ENOTSUP)
        return error;
    zeroes = calloc(1, room);
    if (!zeroes)
        return -ENOMEM;
    for (error = 0; length > 0 && error == 0;) {
        size_t n = (size_t)smaller(length, room);

        error = live_file_pwrite(f, zeroes, n, host);
        host += n;
        length -= n;
    }
    free(zeroes);
    return error;
}

int live_change_put(struct live_change *c, const void *from, uint64_t length, uint64_t host)
{
    struct live_file *f = live_layer_data(c->top);

    return from ? live_file_pwrite(f, from, (size_t)length, host) : put_zeroes(f, length, host);
}

static int read_around(struct live_change *c, uint8_t *buffer, uint64_t begin, uint64_t end)
{
    uint64_t to = inside(c, end);

    return begin < to ? live_layer_pread(c->top, buffer, (size_t)(to - begin), begin) : 0;
}

int live_change_compose(struct live_change *c, const void *from, uint64_t offset, uint64_t length,
                        uint64_t begin, uint64_t end, uint64_t host)
{
    uint8_t *buffer;
    int error;

    if (offset == begin && offset + length == end && from)
        return live_change_put(c, from, length, host);
    buffer = calloc(1, (size_t)(end - begin));
    if (!buffer)
        return -ENOMEM;
    error = read_around(c, buffer, begin, offset);
    if (error == 0)
        error = read_around(c, buffer + (offset + length - begin), offset + length, end);
    if (error == 0 && from)
        memcpy(buffer + (offset - begin), from, (size_t)length);
    /* A data file has just the bytes of the disk. */
    if (c->top->geometry.data_file)
        end = inside(c, end);
    if (error == 0)
        error = live_change_put(c, buffer, end - begin, host);
    free(buffer);
    return error;
}

int live_change_lead(struct live_change *c, uint64_t first, unsigned n, uint64_t host, bool flagged)
{
    struct live_entry entries[ENTRIES_MAX];

    for (unsigned i = 0; i < n; i++)
        entries[i] = (struct live_entry){(host + i * c->top->cluster) | Q2_ENTRY_COPIED, 0};
    return live_slices_change(c->top, first, n, entries, flagged);
}

void live_change_give_up(struct live_change *c, const struct live_span *s,
                         const struct live_run *run)
{
    uint64_t cluster = c->top->cluster;

    if (run->own || run->host == 0 || c->top->geometry.data_file)
        return;
    if (run->kind == Q2_COMPRESSED)
        live_reserve_give_up(c->image, run->host, run->bytes);
    else
        live_reserve_give_up(c->image, run->host - s->begin % cluster, s->n * cluster);
}
