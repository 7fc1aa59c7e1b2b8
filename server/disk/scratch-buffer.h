/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pieces of a scratch file that are still in memory: the slots that were handed out last. Writers
 * fill a piece, then it is written to the file in one go; until that is done, readers find the data
 * here. Guarded by the scratch's lock, but for the bytes of slots that belong to the caller.
 */
#ifndef DISK_SCRATCH_BUFFER_H
#define DISK_SCRATCH_BUFFER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Some ten microseconds of writing, which one guest's write in sixteen waits for. */
#define BUFFER_BYTES (64u << 10)

struct scratch_buffer {
    GList link;
    uint64_t first; /* slot */
    unsigned slots; /* as many */
    unsigned filled;
    unsigned uses; /* the list's, and those who copy to or from it */
    uint8_t *bytes;
};

struct scratch_buffers {
    GQueue list;    /* oldest first */
    uint8_t *spare; /* the bytes of one that is gone, or NULL */
};

/* Append one for the slots from `first` on; false: there is no memory for it. */
bool buffers_add(struct scratch_buffers *all, uint64_t first, unsigned slots);
/* NULL: there is none. */
const struct scratch_buffer *buffers_oldest(const struct scratch_buffers *all);
/* The one that holds `slot`, or NULL. */
struct scratch_buffer *buffers_find(const struct scratch_buffers *all, uint64_t slot);
/* Is any of n slots in one? */
bool buffers_overlap(const struct scratch_buffers *all, uint64_t slot, uint64_t n);
/* Take it off the list, which gives up its use. */
void buffers_remove(struct scratch_buffers *all, struct scratch_buffer *s);
/* Give up a use; with the last one it is gone. */
void buffers_unuse(struct scratch_buffers *all, struct scratch_buffer *s);
/* Remove all, and the spare memory. */
void buffers_clear(struct scratch_buffers *all);

#endif
