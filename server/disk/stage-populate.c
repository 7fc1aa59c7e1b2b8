/* SPDX-License-Identifier: BSD-3-Clause */
/* What an image has allocated, as bits (see instant.c). */
#include "server/disk/stage.h"

/* An image is asked about so much at once. Then the instant may be cancelled. */
#define PIECE_BYTES (1ull << 30)

/* Mark what is allocated from `at` on. Returns how many bytes the image has told of; 0: it cannot
 * tell. */
static uint64_t mark_some(struct disk *d, struct bitmap *bits, uint64_t at, uint64_t length)
{
    struct backend_handle *h = d->handle;
    struct extents e = EXTENTS_INIT;
    uint64_t told = 0;

    if (h->can_extents && h->backend->ops->extents(h, length, at, 0, &e) == 0)
        for (size_t k = 0; k < e.count; k++) {
            if (!(e.list[k].flags & EXTENT_HOLE))
                bitmap_set(bits, at + told, e.list[k].length);
            told += e.list[k].length;
        }
    extents_free(&e);
    /* The next question must begin at a multiple of the image's block. */
    return told >= length ? length : told - told % h->min_block;
}

void stage_mark_allocated(struct instant *i, struct disk *d, struct bitmap *bits)
{
    uint64_t size = bitmap_size(bits);

    for (uint64_t at = 0, told; at < size && !atomic_load(&i->cancelled); at += told) {
        told = mark_some(d, bits, at, MIN(size - at, PIECE_BYTES));
        if (told == 0) {
            bitmap_set(bits, at, size - at);
            return;
        }
        disk_at(d, POINT_BITS_COPYING, at + told);
    }
}
