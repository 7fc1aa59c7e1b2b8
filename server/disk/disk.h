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
#include "server/disk/types.h"
#include "server/state/state.h"

struct disk_config {
    const char *name;
    struct backend *backend;          /* configured; becomes the disk's, also on failure */
    bool readonly;                    /* as nbdkit -r */
    struct scratch_pool *scratch;     /* outlives the disk */
    const struct disk_events *events; /* NULL: nobody wants to hear of any */
};

/* Make a disk of a backend; opens the disk's own handle. */
struct disk *disk_new(const struct disk_config *config, GError **err);
/* No node_io is open and no view exported. Views and bitmaps go with it. False: a thread is still
 * inside the plugin and uses the disk, which lives on (open-handle.c). */
bool disk_free(struct disk *d);

/* Give the disk its store, which outlives it, and the n bitmaps that the store has of it, in order of
 * creation; they are persistent. Once, after disk_new, before anybody opens the disk. */
void disk_restore(struct disk *d, const struct disk_state *state,
                  const struct disk_restored *bitmaps, unsigned n);
bool disk_has_store(const struct disk *d);
/* The number that its store gives it and, whatever its name is, to no other disk ever. 0: no store. */
int64_t disk_store_id(const struct disk *d);
/* What a store tells (struct state_disk_events): the bitmap with these bits (NULL: each persistent
 * one) is inconsistent from now on, until it is cleared. Any thread. */
void disk_bitmaps_broken(struct disk *d, const struct bitmap *bits, const char *reason);

/* No node_io is open any more: wait for what is still being opened, and flush the image; disk_free
 * does not do it again. Failures are logged. Waits for the plugin. */
enum disk_settled {
    DISK_FLUSHED,
    DISK_NOT_FLUSHED,
    DISK_HANGS, /* a thread is inside the plugin and uses the disk; so it will be for disk_free */
};
enum disk_settled disk_settle(struct disk *d);

struct node *disk_node(struct disk *d);
/* The server's own handle of the image, open as long as the disk lives. */
struct backend_handle *disk_handle(struct disk *d);
const char *disk_name(const struct disk *d);
struct backend *disk_backend(struct disk *d);
bool disk_readonly(const struct disk *d);
uint64_t disk_size(struct disk *d);

/* All bitmaps in order of creation: a new dirty_bitmap_array_new(). Any thread. */
GPtrArray *disk_bitmaps(struct disk *d);
struct dirty_bitmap *disk_find_bitmap(struct disk *d, const char *name); /* a reference or NULL */

/* After disk_restore: the bitmap of that name is a checkpoint's (instant.h). False: there is none.
 * Control thread. */
bool disk_bitmap_set_readonly(struct disk *d, const char *name);

/* An instant with actions on this disk is under way (instant.h): actions of others are refused.
 * Control thread. */
bool disk_in_instant(const struct disk *d);

#endif
