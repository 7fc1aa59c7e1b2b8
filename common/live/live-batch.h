/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A batch of clusters for the reserve: its steps are (a) and (b) of live-reserve.h. One thread at a time: the
 * reserve's lock.
 */
#ifndef COMMON_LIVE_LIVE_BATCH_H
#define COMMON_LIVE_LIVE_BATCH_H

#include "common/live/live-counts.h"

struct live_batch {
    uint64_t first, clusters; /* all of it */
    uint64_t blocks;          /* of counts, which are missing: its first clusters */
    uint64_t table; /* clusters of a longer table, behind them; 0: the old one is long enough */
    bool extended;  /* the file has the batch: it is to be tried again as it is */
};

/* Where the clusters that may be taken begin. */
static inline uint64_t live_batch_head(const struct live_batch *b)
{
    return b->first + b->blocks + b->table;
}

/* Plan a batch from cluster `first` on, of which `n` clusters may be taken. 0; -EFBIG: qcow2 has no
 * place for them. */
int live_batch_plan(struct live_batch *b, const struct live_counts *c, uint64_t first, uint64_t n);

/*
 * Make it. 0 or a negative errno. If that fails with `extended` not set, nothing has happened. Else some
 * of it may be in the file: no place of the batch may be used for anything else, and the same batch is made
 * again, later, or is left behind as a leak.
 */
int live_batch_make(struct live_batch *b, struct live_image *image, struct live_counts *c,
                    struct live_metadata *m);

#endif
