/* SPDX-License-Identifier: BSD-3-Clause */
/* What a store does now and then, as long as it is open. */
#ifndef STATE_STORE_TICK_H
#define STATE_STORE_TICK_H

#include "server/state/store-private.h"

/* Until when a lease that is given now lasts: ns since 1970; 0: there is none. Any thread. */
int64_t store_lease_end(const struct store *s);
/* Every TICK_MS: write failures into the catalogue, or make the lease longer; make new files for those
 * that are stuck. `opaque` is the store. Jobs' thread. */
void store_tick(void *opaque);
/* live_events.lost; `opaque` is the store. */
void store_live_lost(void *opaque);

#endif
