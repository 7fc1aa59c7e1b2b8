/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks of a server that has a store: how they get their bitmaps back, and how they leave. */
#ifndef REGISTRY_DISK_STORE_H
#define REGISTRY_DISK_STORE_H

#include "server/disk/disk.h"

struct store;
struct disk_store; /* of a server */

/* NULL: the server has no store; then the functions below do nothing. */
struct disk_store *disk_store_new(struct store *store);
void disk_store_free(struct disk_store *ds);

/* The disk is new and nobody uses it: give it the bitmaps that the store has of it. -1 and *err.
 * Control thread. */
int disk_store_attach(struct disk_store *ds, struct disk *d, GError **err);
/* All disks are there: from now on they may be changed. */
int disk_store_start(struct disk_store *ds, GError **err);
/* The last client has gone: settle the disk (disk.h), also without a store, and see how its image is
 * left. False: a thread hangs in its plugin. Waits for the plugin. Any thread; once. */
bool disk_store_settle(struct disk_store *ds, struct disk *d);
/* After that: tell the store. Waits for the state folder. Any thread. */
void disk_store_detach(struct disk_store *ds, struct disk *d);
/* What was done at the start, for people; NULL without a store. */
const char *disk_store_recovery(const struct disk_store *ds, const struct disk *d);

#endif
