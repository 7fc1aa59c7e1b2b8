/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking exports away. Their clients are asked to end, and are cut off if they have not ended after
 * a while. Events tell when they have left. A client that hangs in its plugin for good keeps its
 * export, which cannot be found by others any more; it holds up nobody. Control thread.
 */
#ifndef REGISTRY_EXPORT_REMOVAL_H
#define REGISTRY_EXPORT_REMOVAL_H

#include "server/registry/export.h"

/* Clients of an export that is taken away have so long to end in order. */
#define EXPORT_GRACE_MS 2000u
/* So long does somebody wait for clients of an export that is taken away. */
#define EXPORT_GONE_MS 10000u

/* Called once, perhaps before what was called returns. `error` is NULL: it is done. Borrowed. */
typedef void (*export_done)(void *opaque, const GError *error);

/* Take an export away that nobody owns (struct export_options). safe (hard false): this is refused, with QEMU's words, while clients are
 * connected; if all of them have hung up, they are waited for first, EXPORT_GRACE_MS at most. hard:
 * requests under way finish, later ones get ESHUTDOWN, and clients without any are let go; clients
 * that are still there after EXPORT_GRACE_MS are cut off. `done` does not wait for that.
 * BLOCK_EXPORT_DELETED is told when the last client has gone. */
void server_export_del(struct server *s, const char *id, bool hard, export_done done, void *opaque);
/* Take away all exports that have an id, hard. Done when they have gone, with their clients, and
 * what they occupied is free; or, with an error that names one, if some have not gone
 * EXPORT_GONE_MS after they were taken away, now or earlier: these go when their clients end. */
void server_export_del_all(struct server *s, export_done done, void *opaque);
/* Take away these (struct export), whoever owns them, hard; some may be going already. Done likewise,
 * when these have gone. The array's elements are referenced meanwhile. */
void server_exports_end(struct server *s, const GPtrArray *exports, export_done done, void *opaque);
/* If all clients of a node's exports have hung up, wait until they have left: they do so when what
 * they asked for is done. It waits EXPORT_GRACE_MS at most, since a plugin may hang. This is for
 * callers to whom a client that has hung up does not count. `then` is called once, perhaps before
 * this returns. */
void server_when_hung_up_left(struct server *s, struct node *n, void (*then)(void *opaque),
                              void *opaque);

#endif
