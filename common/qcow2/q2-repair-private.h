/* SPDX-License-Identifier: BSD-3-Clause */
/* A repair of one file (q2_image_repair), for the files that do its parts. Functions return 0, or -1
 * and r->err. */
#ifndef COMMON_QCOW2_Q2_REPAIR_PRIVATE_H
#define COMMON_QCOW2_Q2_REPAIR_PRIVATE_H

#include "common/qcow2/q2-check-private.h"
#include "common/qcow2/q2-repair.h"

struct q2_repair {
    struct q2_image *image;
    struct q2_repaired *done;
    struct q2_error *err;
    /* How often each cluster is used, which is how often it is to be counted; here and there with the
     * table of counts and its blocks, as the caller says. */
    const struct q2_counts *used;
};

/* ---- q2-repair-write.c ---- */

int q2_repair_write(struct q2_repair *r, const void *bytes, size_t length, uint64_t offset);
int q2_repair_sync(struct q2_repair *r);

/* ---- q2-repair-counts.c ---- */

/* Lower the counts in the file that are above what is used. `used` has everything. */
int q2_repair_lower(struct q2_repair *r);
/*
 * Write new counts, and a new table of them, behind the end of the file, and make them the image's,
 * durably. `used` has everything but the old ones, which nobody uses then. Nothing is written where
 * the counts have no room.
 */
int q2_repair_rebuild(struct q2_repair *r);

/* ---- q2-repair-flags.c ---- */

/* Go through the disk's L1 table and its L2 tables: clear the flag COPIED of what is not used
 * exactly once, or (`set`) set it of what is. Not durable. */
int q2_repair_flags(struct q2_repair *r, bool set);

#endif
