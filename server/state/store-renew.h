/* SPDX-License-Identifier: BSD-3-Clause */
/* New files for bits whose file could not be written or synced: it proves nothing any more. */
#ifndef STATE_STORE_RENEW_H
#define STATE_STORE_RENEW_H

#include "server/state/store-private.h"

/* store.renew: all that are stuck get one, and the catalogue names it. What fails stays stuck, and is
 * tried again when this is called again, and so is what no row names yet. For the jobs' thread. */
void store_renew(void *store);

#endif
