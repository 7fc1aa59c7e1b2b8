/* SPDX-License-Identifier: BSD-3-Clause */
/* An export, for the files that make it and take it away. */
#ifndef REGISTRY_EXPORT_PRIVATE_H
#define REGISTRY_EXPORT_PRIVATE_H

#include "server/registry/export.h"
#include "server/registry/registry-private.h"

#include <stdatomic.h>

struct export
{
    atomic_uint references;
    struct server *server;
    struct export_info info;
    struct dirty_bitmap **bitmaps;
    unsigned n_bitmaps;
    bool default_too; /* also found as "" */
    guint cut_timer;  /* source that cuts its clients off, or then gives them up; or 0. Control
                         thread */

    /* under server->lock */
    bool reserved;      /* its id and name are taken, but it is not there yet */
    int64_t idle_since; /* g_get_monotonic_time: since when it has no client */
    bool going;
    bool given_up;  /* going, and its clients were cut off long ago: nobody waits for them */
    GQueue clients; /* struct export_client, by their links */
};

/* export.c. Under server->lock: the export of that id, also one that is reserved, or NULL. */
struct export *export_find_id_locked(struct server *s, const char *id);
/* Release an export that cannot be found any more and has no client: let go of what it occupies, and
 * emit BLOCK_EXPORT_DELETED if `tell`. Control thread. */
void export_release(struct export *e, bool tell);
/* The same with all that are going and have no client any more. */
void server_release_gone(struct server *s);

#endif
