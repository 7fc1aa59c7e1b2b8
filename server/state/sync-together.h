/* SPDX-License-Identifier: BSD-3-Clause */
/* The files of many bitmaps, synced by several threads at once: a file system makes many syncs that
 * come together durable with one write of its journal. */
#ifndef STATE_SYNC_TOGETHER_H
#define STATE_SYNC_TOGETHER_H

#include "server/state/store-private.h"

/* stored_bits_sync of all (struct stored_bits). -1 and *err: of the first one that has failed. Waits for
 * the folder. */
int sync_together(const GPtrArray *bits, GError **err);

#endif
