/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tables of the catalogue hold, as far as it can be believed. A damaged row is mended: what
 * cannot be right in it gets a value that does no harm, and its bitmaps are inconsistent. A damaged
 * record is left out.
 */
#ifndef COMMON_STATE_CATALOGUE_ROWS_H
#define COMMON_STATE_CATALOGUE_ROWS_H

#include "common/state/catalogue-tables.h"

struct contents {
    GArray *rows[TALLIES];       /* struct catalogue_disk, struct catalogue_bitmap, ... */
    GByteArray *mended[TALLIES]; /* one for each: 1: it is not as the database has it */
    struct tally found[TALLIES]; /* of all rows that are there, also of those left out */
    GArray *strays[TALLIES];     /* int64_t: ids of rows that are of no use and are left out */
    bool damaged[TALLIES];       /* some row was */
};

/* Read all rows. Sentences about damage are added to damaged[...], which may be NULL. -1 and *err.
 * The caller clears the contents in any case. */
int contents_load(struct catalogue *c, struct contents *k, GPtrArray *const damaged[TALLIES],
                  GError **err);
void contents_clear(struct contents *k);

#endif
