/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk: a backend with a name, its gate, its dirty bitmaps and its views.
 *
 * Threads: data goes through node_io (node.h), from any thread. Everything that changes a disk's
 * bitmaps, views or size is called from one thread, the control thread. Readers of lists
 * (disk_bitmaps, disk_views) may be any thread.
 */
#ifndef DISK_DISK_H
#define DISK_DISK_H

#include "server/backend/backend.h"
#include "server/disk/dirty-bitmap.h"
#include "server/disk/node.h"
#include "server/disk/scratch.h"
#include "server/disk/state.h"
#include "server/disk/types.h"

struct disk_config {
    const char *name;
    struct backend *backend;          /* configured; becomes the disk's, also on failure */
    bool readonly;                    /* as nbdkit -r */
    struct scratch_pool *scratch;     /* outlives the disk */
    const struct disk_events *events; /* NULL: nobody wants to hear of any */
    const struct state_ops *state;    /* NULL: bitmaps do not survive */
    void *store;                      /* of `state`; outlives the disk */
};

/* Make a disk of a backend; opens the disk's own handle. */
struct disk *disk_new(const struct disk_config *config, GError **err);
/* No node_io is open and no view exported. Views and bitmaps go with it. False: a thread is still
 * inside the plugin and uses the disk, which lives on (open-handle.c). */
bool disk_free(struct disk *d);

struct node *disk_node(struct disk *d);
const char *disk_name(const struct disk *d);
struct backend *disk_backend(struct disk *d);
bool disk_readonly(const struct disk *d);
uint64_t disk_size(struct disk *d);

/* All bitmaps in order of creation: a new dirty_bitmap_array_new(). Any thread. */
GPtrArray *disk_bitmaps(struct disk *d);
struct dirty_bitmap *disk_find_bitmap(struct disk *d, const char *name); /* a reference or NULL */

/* An instant with actions on this disk is under way (instant.h): actions of others are refused.
 * Control thread. */
bool disk_in_instant(const struct disk *d);

#endif
