/* SPDX-License-Identifier: BSD-3-Clause */
/* Records (state.h): those of a transaction, and the rows in memory. */
#ifndef STATE_STORE_RECORDS_H
#define STATE_STORE_RECORDS_H

#include "server/state/store-private.h"

/* The records of a transaction. */
struct record_changes;

struct record_changes *record_changes_new(void);
void record_changes_free(struct record_changes *changes);
void record_changes_add(struct record_changes *changes, const struct state_record *record);
/* Ask for the texts, once. No lock is held. -1 and *err: one cannot be kept. */
int record_changes_ask(struct record_changes *changes, GError **err);

/* The rest: under the store's catalogue_lock. */

/* Compare the texts with the rows in memory. False: nothing differs. */
bool record_changes_plan(struct record_changes *changes, struct store *s);
/* Write what differs, in the catalogue's open transaction. */
int record_changes_put(struct record_changes *changes, struct store *s, GError **err);
/* The transaction is durable: the rows in memory become so. */
void record_changes_take(struct record_changes *changes, struct store *s);

/* Make the records of the catalogue those in memory, in its open transaction. */
int records_put_known(struct store *s, GError **err);

#endif
