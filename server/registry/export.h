/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exports: nodes that NBD clients can ask for by name. control/ adds and removes them; nbd/ finds
 * them and attaches its clients to them.
 *
 * Functions marked "any thread" take the registry's lock, under which nobody waits (registry.h).
 * All others: control thread.
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
    bool tls_required;             /* only clients that use TLS may use it */
    const char *const *tls_authz;  /* and of these only those with one of these names
                                      (tls-peer.h); ends with NULL. NULL: all. */
    struct dirty_bitmap **bitmaps; /* n of them; they are busy until the export is gone */
    unsigned n_bitmaps;
    bool live;         /* contexts are all the node's bitmaps, whatever they are at the time */
    const char *owner; /* who takes it away, for people ("backup session 'b1'"); others are refused.
                          NULL: anybody may */
};

/* What a client and QMP see of an export; fixed for its life. */
struct export_info {
    const char *id, *name, *description; /* id, description may be NULL */
    struct node *node;
    bool writable, discard, live;
    bool
        shadowed; /* added, with a name that a disk's own export has (or ""): EXPORTS_LIVE has that one
                      instead. The disks' own come first and stay. */
    bool tls_required;
    const char *const *tls_authz; /* see struct export_options */
    const char *owner;            /* likewise */
};

/* Make an export visible. Checks QEMU's list (id, name, duplicates, read-only node, bitmaps) in
 * QEMU's order with its texts, but not that an NBD server runs: control does. An added export may
 * have the name of a disk: see enum export_scope. */
int server_export_add(struct server *s, const struct export_options *o, GError **err);
/* Two of these checks by themselves: control/ looks up the node, the NBD server and the bitmaps
 * between them, as QEMU's order has it. 0, or -1 and *err. */
int server_export_check_id(struct server *s, const char *id, GError **err);
/* Its bits can be read: it is not inconsistent. 0, or -1 and *err with QEMU's text and the reason. */
int export_check_bitmap(struct dirty_bitmap *db, GError **err);
/* `alone`: there is no listener that serves only added exports (EXPORTS_ADDED). Then the name of a
 * disk is taken, since no client would find the export by it. */
int server_export_check_name(struct server *s, const char *name, const char *description,
                             bool alone, GError **err);

/* In two steps, for an export whose node is not there yet. First its id and name are taken: all that
 * can fail. The id may be of any form. `node` and `bitmaps` of the options are not looked at. `alone`
 * as above. A reference, or NULL and *err. */
struct export *server_export_reserve(struct server *s, const struct export_options *o, bool alone,
                                     GError **err);
/* Then it is made visible... */
void server_export_open(struct export *e, struct node *node, struct dirty_bitmap *const *bitmaps,
                        unsigned n_bitmaps);
/* ...or given up. The reference stays the caller's. */
void server_export_unreserve(struct export *e);
/* How many clients it has; if it has none, *idle_since is since when (g_get_monotonic_time). */
unsigned export_clients(struct export *e, int64_t *idle_since);

struct export_status {
    const struct export_info *info;
    bool shutting_down;
    unsigned clients;
};
/* The exports that have an id, newest first: GArray of struct export_status. */
GArray *server_exports(struct server *s);

/* -- for nbd/, any thread -- */

/* Which exports a listener serves. One that was opened for a backup must not serve the guests'
 * disks; an export may have its disk's name there. */
enum export_scope {
    EXPORTS_LIVE,  /* the disks' own, "" for the first, and added ones by names that these leave */
    EXPORTS_ADDED, /* only those that have an id; "" is found only if it was added */
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
