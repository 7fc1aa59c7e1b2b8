/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which rows of bitmaps a transaction changes: exactly those that differ, and those of other images'
 * bitmaps that have the name of one that begins. A bitmap may have broken since the instant was
 * prepared. If it is one that the catalogue has already, the transaction makes it inconsistent. If it
 * is a new one, the transaction fails.
 *
 * All with catalogue_lock held.
 */
#ifndef STATE_STORE_STEPS_H
#define STATE_STORE_STEPS_H

#include "server/state/store-change.h"

/* A row that will be another one. */
struct step {
    struct state_disk *disk;
    struct catalogue_bitmap *old; /* in memory; NULL: there was none */
    struct catalogue_bitmap *new; /* owned; NULL: it is removed */
    struct stored_bits *sb;       /* of `new`; owned by the change */
};

/* None; of struct step, owned. */
GPtrArray *steps_new(void);
/* Those of `changes` (struct change, which outlive the steps). -1 and *err: a new bitmap has broken. */
int steps_plan(GPtrArray *steps, const GArray *changes, GError **err);

#endif
