/* SPDX-License-Identifier: BSD-3-Clause */
/* Counts of the catalogue's rows (struct tally), and changes of rows, which keep them right. */
#ifndef COMMON_STATE_CATALOGUE_TALLY_H
#define COMMON_STATE_CATALOGUE_TALLY_H

#include "common/state/catalogue-private.h"

/* Read the counts and compare them with the rows: c->sick and what goes with it. -1 and *err: the
 * database cannot be read. */
int tally_check(struct catalogue *c, GError **err);
/* Write all rows that were found damaged as catalogue_disks and catalogue_bitmaps give them, remove
 * damaged records, and count anew. The caller has begun a transaction. */
int tally_heal(struct catalogue *c, GError **err);
/* Write the counts: part of each transaction. */
int tally_write(struct catalogue *c, GError **err);

#endif
