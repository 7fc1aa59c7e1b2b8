/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where bytes of the disk lie, told without waiting: on the way of every request that the server
 * does inline, so there is no lock, and a few loads for each layer.
 */
#include "common/live/live-slices.h"

/* In this file, as far as the file goes: who reads there by the descriptor gets nothing behind
 * its end. */
static struct live_segment in_file(struct live_file *f, uint64_t host, uint64_t length)
{
    uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);

    if (host >= size)
        return (struct live_segment){.place = LIVE_SLOW, .length = length};
    if (length > size - host)
        length = size - host;
    return (struct live_segment){LIVE_DATA, f->fd, host, length};
}

/* A run of the top, which the caller may write at its place. */
static struct live_segment to_write(struct live_layer *top, const struct live_run *run)
{
    if (run->kind != Q2_DATA || !run->own || !top->writable ||
        atomic_load_explicit(&top->image->broken, memory_order_relaxed))
        return (struct live_segment){.place = LIVE_SLOW, .length = run->length};
    return in_file(live_layer_data(top), run->host, run->length);
}

static struct live_segment to_read(struct live_layer *l, const struct live_run *run)
{
    bool stays = run->own || !l->writable;

    if (run->kind == Q2_DATA && stays)
        return in_file(live_layer_data(l), run->host, run->length);
    return (struct live_segment){.place = run->kind == Q2_ZERO ? LIVE_ZERO : LIVE_SLOW,
                                 .length = run->length};
}

struct live_segment live_map(struct live_image *image, uint64_t offset, uint64_t length,
                             bool writing)
{
    struct live_run run;

    for (struct live_layer *l = image->top; l; l = l->backing) {
        uint64_t size = atomic_load_explicit(&l->size, memory_order_relaxed);

        if (offset >= size)
            break;
        if (length > size - offset)
            length = size - offset;
        if (!live_slices_run(l, offset, length, &run))
            return (struct live_segment){.place = LIVE_SLOW, .length = length};
        length = run.length;
        if (writing)
            return to_write(l, &run);
        if (run.kind != Q2_UNALLOCATED)
            return to_read(l, &run);
    }
    return (struct live_segment){.place = LIVE_ZERO, .length = length};
}
