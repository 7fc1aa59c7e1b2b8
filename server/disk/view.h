/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views: a disk as it was at an instant. Made by instant_view_create; everything else is here.
 */
#ifndef DISK_VIEW_H
#define DISK_VIEW_H

#include "server/disk/types.h"

#include <glib.h>

struct view_info {
    uint64_t size;          /* of the disk at the instant, bytes */
    uint64_t scratch_bytes; /* kept for this view now, bytes of data (zeroes cost nothing) */
    uint64_t scratch_limit; /* 0: none of its own */
    enum cbw_error on_error;
    int64_t instant_usec; /* wall-clock time of the instant, microseconds since 1970 */
    bool broken;
    char reason[160]; /* why, where broken */
    bool in_use;      /* exported */
};

struct node *view_node(struct view *v);
struct disk *view_disk(struct view *v);
const char *view_name(const struct view *v);
void view_info(struct view *v, struct view_info *info); /* any thread */

/* An export holds the view: it cannot be deleted. Counted. Control thread, or any that releases. */
void view_use_begin(struct view *v);
void view_use_end(struct view *v);

/* Somebody will ask for the view after the server's end, or nobody will: with one that is claimed, all
 * views of its disk are left for the next server, where the disk's store can do that. Views of the last
 * server are claimed at first, new ones are not. Control thread. */
void view_claim(struct view *v, bool claimed);

/* The limit that it shares with others, for a view that has none: what it has kept counts. Before
 * clients are there. */
void view_set_quota(struct view *v, struct view_quota *q);

/* The disk's views, oldest first, as a new GPtrArray of borrowed pointers. Control thread. */
GPtrArray *disk_views(struct disk *d);

/* Delete a view and wait for that: for tests. See instant_view_delete. */
int view_delete(struct view *v, GError **err);

#endif
