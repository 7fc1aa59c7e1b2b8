/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The counts of host clusters: the table, in memory, and its blocks, in the file, which are read and
 * written sector by sector where they change. Functions return 0 or a negative errno. One thread at a
 * time: the reserve's lock.
 */
#ifndef COMMON_LIVE_LIVE_COUNTS_H
#define COMMON_LIVE_LIVE_COUNTS_H

#include "common/live/live-metadata.h"

#define LIVE_COUNTS_MAX_TABLE (8U << 20) /* bytes of the table, as QEMU allows */

struct live_counts {
    struct live_file *file;
    unsigned cluster_bits;
    unsigned order;      /* a count has 2^order bits, 0..6 */
    unsigned block_bits; /* a block has 2^block_bits counts */
    uint64_t entries;    /* of the table */
    uint64_t *table;     /* places of blocks, bytes; 0: there is none */
    bool unsynced;       /* something was written that no sync has made durable yet */
    /* Where a function fails with -EIO because of what the file has: what is wrong. "" else. Who calls it
     * empties it. */
    struct q2_error damage;
};

enum live_counts_change {
    LIVE_COUNTS_TAKE,   /* from 0 to 1 */
    LIVE_COUNTS_RETAKE, /* from 0 or 1 to 1: an earlier try may have written it */
    LIVE_COUNTS_RETURN, /* from 1 to 0 */
    LIVE_COUNTS_DOWN,   /* one less, and a hole in the file where that is 0 */
};

/* Read the table of image->header; note it and its blocks. -1 and *err, and clear is fine then. */
int live_counts_init(struct live_counts *c, const struct live_image *image, struct live_metadata *m,
                     struct q2_error *err);
void live_counts_clear(struct live_counts *c);

/* The number behind the last cluster that is counted, or `least`, whichever is more. Reads blocks from the
 * end of the table. -1 and *err. */
int live_counts_end(struct live_counts *c, const struct live_image *image, uint64_t least,
                    uint64_t *end, struct q2_error *err);

/* Change `n` counts of the block at `host`, from number `at` of the block on; `first` is the cluster
 * of that count. What a count was before has to be what `how` says: else nothing of its piece of 64 KiB is
 * written. */
int live_counts_in_block(struct live_counts *c, uint64_t host, uint64_t first, uint64_t n,
                         enum live_counts_change how, bool durable);
/* The same for clusters whose blocks are in the table. */
int live_counts_change(struct live_counts *c, uint64_t first, uint64_t n,
                       enum live_counts_change how, bool durable);
int live_counts_sync(struct live_counts *c); /* if there is something to make durable */

#endif
