/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that is not served any more: store_detach (store.h). */
#ifndef STATE_STORE_DETACH_H
#define STATE_STORE_DETACH_H

#include "server/state/store-private.h"

/* Seal the disk's bits and note how its image was left. -1 and *err: the catalogue does not know it.
 * catalogue_lock. */
int detach_disk(struct state_disk *d, const struct image_identity *identity, GError **err);
/* Give back what the disk has; in any case. hung: a thread of the journal still uses its files. */
void detach_free(struct state_disk *d, bool hung);

#endif
