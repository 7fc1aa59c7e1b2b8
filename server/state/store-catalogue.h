/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transactions of the catalogue while the server runs. If the storage fails in the middle of a COMMIT,
 * it is not known whether the transaction has happened. The catalogue is then opened anew: at once,
 * and if the storage still fails, before each later transaction until that works.
 */
#ifndef STATE_STORE_CATALOGUE_H
#define STATE_STORE_CATALOGUE_H

#include "server/state/store-private.h"

/* All with catalogue_lock held, on a thread that may wait for the folder. */

/* As catalogue_begin. If the outcome of an earlier transaction was never known, this one makes the
 * catalogue what the rows in memory say. */
int store_catalogue_begin(struct store *s, GError **err);
/* As catalogue_commit. *unsure (may be NULL): the storage still fails, so it is not known whether the
 * transaction has happened; its changes are not to be taken over into the rows in memory. */
int store_catalogue_commit(struct store *s, bool *unsure, GError **err);

#endif
