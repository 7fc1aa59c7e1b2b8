/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many regions are opened at once around one that a writer asks for: 4^level, aligned.
 *
 * A batch of the journal makes a writer wait for a sync. As long as syncs take less than a 32nd of
 * the time, regions are opened one by one, so that a power loss widens the bitmaps by no more than
 * what was written. A bucket counts the batches and leaks at just that rate, by the length of a sync
 * as it is measured. When it has four, four times as many regions are opened at once from then on,
 * and it is empty again. So guests that write all over a disk have all of it open after four batches
 * for each level: 28 for a disk of 64 GiB, whatever their number is. When the bucket has run
 * empty, the level falls by one with each look at the regions (twice in journal_options.idle_ms);
 * regions that were opened in vain are closed by then.
 */
#ifndef STATE_JOURNAL_STORM_H
#define STATE_JOURNAL_STORM_H

#include <stdint.h>

struct storm {
    unsigned level;
    int64_t bucket; /* STORM_BATCH each */
    int64_t since;  /* g_get_monotonic_time() at which it had so many */
};

/* A batch opened regions of the disk, and took a sync of this length. */
void storm_batch(struct storm *s, int64_t now_us, int64_t sync_us);
/* The regions were looked at. */
void storm_look(struct storm *s, int64_t now_us, int64_t sync_us);
/* Widen [*first, *last] to whole runs, but not behind `end`, the highest region that anybody has
 * asked for. */
void storm_widen(const struct storm *s, uint64_t end, uint64_t *first, uint64_t *last);

#endif
