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

struct lasting;

struct scratch_buffers {
    GQueue list;    /* oldest first */
    uint8_t *spare; /* the bytes of one that is gone, or NULL */
    /* Where the bytes survive the process (lasting.h); NULL: in memory of the process. It has places for
     * LASTING_BUFFERS, and says of each which slots are in it. Borrowed. */
    struct lasting *file;
    uint64_t taken, reserved; /* a bit a place; reserved: it has its memory */
    bool keeps;               /* the file goes on to say what is in it */
};

/* Append one for the slots from `first` on; false: there is no memory for it, or no place. */
bool buffers_add(struct scratch_buffers *all, uint64_t first, unsigned slots);
/* NULL: there is none. */
const struct scratch_buffer *buffers_oldest(const struct scratch_buffers *all);
/* The one that holds `slot`, or NULL. */
struct scratch_buffer *buffers_find(const struct scratch_buffers *all, uint64_t slot);
/* Is any of n slots in one? */
bool buffers_overlap(const struct scratch_buffers *all, uint64_t slot, uint64_t n);
/* Take it off the list, which gives up its use: what it has is in the file. */
void buffers_remove(struct scratch_buffers *all, struct scratch_buffer *s);
/* Give up a use; with the last one it is gone. */
void buffers_unuse(struct scratch_buffers *all, struct scratch_buffer *s);
/* For a file that an earlier process has left: write what its buffers have, each with `write`, which
 * returns 0 or a negative errno; then they are empty. `slots`: of a buffer. */
int buffers_recover(struct scratch_buffers *all, unsigned slots,
                    int (*write)(void *opaque, uint64_t first, const uint8_t *bytes), void *opaque);
/* Remove all, and the spare memory. */
void buffers_clear(struct scratch_buffers *all);

#endif
