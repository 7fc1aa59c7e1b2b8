/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exports: nodes that NBD clients can ask for by name. control/ adds and removes them; nbd/ finds
 * them and attaches its clients to them.
 *
 * Functions marked "any thread" take the registry's lock inside, which comes last in the lock
 * order: under it no other is taken, and nobody waits. All others: control thread.
 */
#ifndef REGISTRY_EXPORT_H
#define REGISTRY_EXPORT_H

#include "server/disk/disk.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct export;

struct export_options {
    const char *id;          /* NULL: a live export made with its disk; not listed by QMP */
    const char *name;        /* NBD name */
    const char *description; /* may be NULL */
    struct node *node;
    bool writable, discard;
    bool tls_required;             /* only clients that use TLS may have it */
    const char *const *tls_authz;  /* and of these only who has one of these names (tls-peer.h);
                                      ends with NULL. NULL: all. */
    struct dirty_bitmap **bitmaps; /* n of them; they are busy until the export is gone */
    unsigned n_bitmaps;
    bool live; /* contexts are all the node's bitmaps, whatever they are at the time */
};

/* What a client and QMP see of an export; fixed for its life. */
struct export_info {
    const char *id, *name, *description; /* id, description may be NULL */
    struct node *node;
    bool writable, discard, live;
    bool tls_required;
    const char *const *tls_authz; /* see struct export_options */
};

/* Make an export visible. Checks QEMU's list (id, name, duplicates, read-only node, bitmaps) in
 * QEMU's order with its texts, but not that an NBD server runs: control does. An added export may
 * have the name of a disk: see enum export_scope. */
int server_export_add(struct server *s, const struct export_options *o, GError **err);
/* Parts of these checks by themselves, for control, which looks up the node, the NBD server and the
 * bitmaps between them (QEMU's order). 0, or -1 and *err. Control thread. */
int server_export_check_id(struct server *s, const char *id, GError **err);
/* `alone`: no listener serves added exports alone (EXPORTS_ADDED), so that a name that a disk has
 * is taken: nobody would find the export by it. */
int server_export_check_name(struct server *s, const char *name, const char *description,
                             bool alone, GError **err);
/* Clients of an export that is taken away have so long to end in order. */
#define EXPORT_GRACE_MS 2000u
/* Take an export away. safe (hard false): refused with QEMU's words while clients are connected,
 * of which those are waited for first that have hung up (server_wait_hung_up). hard: its clients'
 * requests under way finish, later ones get ESHUTDOWN, and who has nothing under way is let go; who
 * is still there after EXPORT_GRACE_MS is cut off. BLOCK_EXPORT_DELETED follows when the last has
 * gone. */
int server_export_del(struct server *s, const char *id, bool hard, GError **err);
/* Take away all exports that have an id, hard (nbd-server-stop). Returns when all of them are gone,
 * with their clients, and what they occupied is free. */
void server_export_del_all(struct server *s);
/* Where all clients of a node's exports have hung up: wait until they have left, which they do by
 * themselves when what they asked for is done; at most EXPORT_GRACE_MS, since a plugin may hang.
 * For who must not call a node used that nobody uses. Control thread. */
void server_wait_hung_up(struct server *s, const struct node *n);
struct export_status {
    const struct export_info *info;
    bool shutting_down;
    unsigned clients;
};
/* Explicit exports, newest first, GArray of struct export_status. Control thread. */
GArray *server_exports(struct server *s);

/* -- for nbd/, any thread -- */

/* Which exports a listener serves. Who opens a port for a backup must not hand out the guests'
 * disks by it; there an export may have its disk's name. */
enum export_scope {
    EXPORTS_LIVE,  /* the disks' own, "" for the first, and added ones by names that these leave */
    EXPORTS_ADDED, /* only those that have an id; "" is one only if one was added by that name */
};
/* By NBD name. A reference, or NULL; exports that are shutting down are not found. */
struct export *server_find_export(struct server *s, enum export_scope scope, const char *name);
/* All names for NBD_OPT_LIST, in order of creation, without the "" alias: GPtrArray of
 * references.*/
GPtrArray *server_list_exports(struct server *s, enum export_scope scope);
struct export *export_ref(struct export *e);
void export_unref(struct export *e);
const struct export_info *export_info(const struct export *e);
/* The bitmaps whose contexts the export offers now: GPtrArray of references. */
GPtrArray *export_bitmaps(struct export *e);

/* A connection that has chosen an export (GO). cancel is called, from any thread and with the
 * registry's lock held, when the export goes away: to end in order and, once that has taken too
 * long, with `cut`, to end at once. It must not block or detach. */
struct export_client {
    void (*cancel)(struct export_client *c, bool cut);
    /* Has its peer closed, so that nobody is there any more? Called likewise. */
    bool (*hung_up)(struct export_client *c);
    /* the registry's */
    struct export *export;
    GList link;
};
/* false: the export is shutting down. While attached, the node stays. */
bool export_attach(struct export *e, struct export_client *c);
void export_detach(struct export_client *c);

#endif
