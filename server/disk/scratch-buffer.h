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
#define SEGMENT_BYTES (64u << 10)

struct segment {
    GList link;
    uint64_t first; /* slot */
    unsigned slots; /* as many */
    unsigned filled;
    unsigned uses; /* the list's, and those who copy to or from it */
    uint8_t *bytes;
};

struct segments {
    GQueue list;    /* oldest first */
    uint8_t *spare; /* the bytes of one that is gone, or NULL */
};

/* Append one for the slots from `first` on; false: there is no memory for it. */
bool segments_add(struct segments *all, uint64_t first, unsigned slots);
/* NULL: there is none. */
const struct segment *segments_oldest(const struct segments *all);
/* The one that holds `slot`, or NULL. */
struct segment *segments_find(const struct segments *all, uint64_t slot);
/* Is any of n slots in one? */
bool segments_overlap(const struct segments *all, uint64_t slot, uint64_t n);
/* Take it off the list, which gives up its use. */
void segments_remove(struct segments *all, struct segment *s);
/* Give up a use; with the last one it is gone. */
void segments_unuse(struct segments *all, struct segment *s);
/* Remove all, and the spare memory. */
void segments_clear(struct segments *all);

#endif
