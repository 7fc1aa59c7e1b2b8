/* SPDX-License-Identifier: BSD-3-Clause */
/* An instant's transaction of the catalogue: state_ops (state.h). */
#ifndef STATE_STORE_TRANSACTION_H
#define STATE_STORE_TRANSACTION_H

#include "server/state/store-private.h"

int store_prepare(void *store, const struct state_change *changes, unsigned n,
                  struct state_transaction **t, GError **err);
void store_record_change(struct state_transaction *t, const struct state_record *record);
int store_commit(void *store, struct state_transaction *t, GError **err);
void store_end(void *store, struct state_transaction *t, bool committed);

#endif
