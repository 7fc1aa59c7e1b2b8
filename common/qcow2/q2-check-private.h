/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A check of one file (q2_image_check), for the files that do its parts. Each use of a cluster by a
 * table or an entry is counted; at the end, the counts in the file are compared. Functions return 0,
 * also where something is corrupt, or -1 and *err where the file could not be read.
 */
#ifndef COMMON_QCOW2_Q2_CHECK_PRIVATE_H
#define COMMON_QCOW2_Q2_CHECK_PRIVATE_H

#include "common/qcow2/q2-counts.h"
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-slices.h"

/* What a cluster is used for: what else may be at the same place. */
enum q2_use {
    Q2_USE_ALONE = 1,  /* nothing */
    Q2_USE_TABLE,      /* the same L2 table, of another L1 table */
    Q2_USE_DATA,       /* the same data, of another L1 table */
    Q2_USE_COMPRESSED, /* further compressed clusters */
};

/* Corruptions that a repair mends (q2-repair.h). */
enum q2_mendable {
    Q2_WRONG_COUNTS, /* too low, or where the file has its counts */
    Q2_WRONG_FLAGS,  /* COPIED */
};

struct q2_check {
    const struct q2_image *image;
    struct q2_error *err;
    int (*watch)(void *opaque); /* may be NULL */
    void *opaque;
    uint64_t leaks, corruptions;
    struct q2_error first;   /* the first corruption */
    uint64_t mendable[2];    /* of the corruptions: by enum q2_mendable */
    struct q2_error fatal;   /* the first one that is not mendable; "": there is none */
    uint64_t overlaps;       /* clusters that are used for what cannot be at one place: these are
                              corruptions only where their counts are wrong, too */
    struct q2_error overlap; /* the first of them */
    struct q2_counts counts;
    struct q2_counts uses;   /* enum q2_use, and by which L1 table, last */
    struct q2_counts walked; /* for the cluster of each L2 table: by which L1 table it was, last */
    uint32_t walk;           /* number of the L1 table that is being followed, from 1 */
    struct q2_slices tables; /* of L2 and other tables */
    struct q2_slices refcounts; /* of the table and the blocks of reference counts */
};

/* ---- q2-check.c ---- */

/* `image`, `err` and `watch` are set. To be cleared in any case. */
int q2_check_init(struct q2_check *c);
void q2_check_clear(struct q2_check *c);
/* Use all but the table of reference counts and its blocks. */
int q2_check_references(struct q2_check *c);

/* ---- q2-check-refs.c ---- */

/* Call it for each table and block: -1 and c->err where the caller ends the check. */
int q2_check_watch(struct q2_check *c);
/* Something breaks a rule: a printf message, without the name of the file. */
void q2_check_corrupt(struct q2_check *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same, of what a repair mends. */
void q2_check_mendable(struct q2_check *c, enum q2_mendable kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A range of the file is used by `what`. */
int q2_check_use(struct q2_check *c, enum q2_use use, uint64_t offset, uint64_t length,
                 const char *what);
/* The same for a table that is followed then; *alone: nothing else was found to use its first
 * cluster, up to now. Only such a table is followed, so that a file of lies takes no long time. */
int q2_check_use_table(struct q2_check *c, uint64_t offset, uint64_t length, const char *what,
                       bool *alone);
/* Where the block of reference counts number `index` is; 0: there is none that can be read. Errors
 * in the table are not told: q2_check_ref_blocks does that. */
int q2_check_ref_block(struct q2_check *c, uint64_t index, uint64_t *host);
/* How often the file says that a cluster is used. */
int q2_check_stored(struct q2_check *c, uint64_t cluster, uint64_t *count);
/* Use the table of reference counts and its blocks. */
int q2_check_ref_blocks(struct q2_check *c);
/* Compare what was counted with what the file says. */
int q2_check_compare(struct q2_check *c);

/* ---- q2-check-tables.c ---- */

/* Use an L1 table, and all that is below it. `active`: it is the disk's, whose entries say by
 * Q2_ENTRY_COPIED whether their cluster is used once. */
int q2_check_l1(struct q2_check *c, uint64_t offset, uint64_t entries, bool active);

/* ---- q2-check-extras.c ---- */

int q2_check_snapshots(struct q2_check *c);
int q2_check_bitmaps(struct q2_check *c);

#endif
