/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that is going to be served: store_attach (store.h). */
#ifndef STATE_STORE_ATTACH_H
#define STATE_STORE_ATTACH_H

#include "server/state/store-private.h"

/* What store_attach does after the catalogue's transaction has begun. catalogue_lock. */
struct state_disk *attach_disk(struct store *s, const char *name, uint64_t size,
                               const struct image_identity *identity,
                               const struct state_disk_events *events, GArray **bitmaps,
                               char **recovered, GError **err);

#endif
