/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many regions are opened at once around one that a writer asks for: 4^level, aligned.
 *
 * A batch of the journal makes a writer wait for a sync. As long as syncs take less than a 32nd of
 * the time, regions are opened one by one, so that a power loss widens the bitmaps by no more than
 * the regions that were written.
 *
 * A bucket counts the batches, and it leaks at just that rate; the length of a sync is measured.
 * When four batches are in it, the level rises by one, and the bucket begins empty again. So guests
 * that write all over a disk have all of it open after four batches for each level, which is 28
 * batches for a disk of 64 GiB. When the bucket has run empty, the level falls by one with each
 * look at the regions (twice in journal_options.idle_ms). Regions that nobody has used are closed
 * by then.
 */
#ifndef STATE_JOURNAL_STORM_H
#define STATE_JOURNAL_STORM_H

#include <stdint.h>

struct storm {
    unsigned level;
    uint64_t highest; /* region that anybody has asked for */
    int64_t bucket;   /* STORM_BATCH each */
    int64_t since;    /* g_get_monotonic_time() at which it had so many */
};

/* A batch opened regions of the disk, and took a sync of this length. */
void storm_batch(struct storm *s, int64_t now_us, int64_t sync_us);
/* The regions were looked at. */
void storm_look(struct storm *s, int64_t now_us, int64_t sync_us);
/* Widen [*first, *last], which a writer asks for, to whole runs. These may go on behind the end of
 * the disk, whose size is not known here; but they are no longer than 4 times what lies before the
 * highest region that anybody has asked for. */
void storm_widen(struct storm *s, uint64_t *first, uint64_t *last);

#endif
