/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry: disks, views, exports, events. nbd/ and control/ meet here and do not know each
 * other.
 *
 * Threads: the control thread is the main thread, which runs the GLib main loop. Everything that
 * changes the registry runs there. Functions marked "any thread" take the registry's lock, which is
 * the last in the order of disk/'s locks (disk-private.h). Nobody waits under it, and nobody is
 * called but `cancel` and `hung_up` of an export's clients, which take no lock but leaves of nbd/.
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include "server/disk/disk.h"
#include "server/disk/view.h"
#include "server/registry/event.h"
#include "server/registry/export.h"
#include "server/registry/export-removal.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct store;

struct server_options {
    const char *scratch_dir;     /* NULL: $TMPDIR, else /var/tmp */
    uint64_t scratch_limit;      /* bytes; 0: none */
    enum cbw_error on_cbw_error; /* default of views */
    bool readonly;               /* -r: all disks */
    struct store *store;         /* NULL: bitmaps end with the server; else outlives it */
};

struct server *server_new(const struct server_options *options);
/* All listeners are gone and all connections ended. False: a thread hangs in a plugin or a change
 * of a disk for good, and what it uses is still there. */
bool server_free(struct server *s);
/* Before server_free, where a disk may hang: its disks, in order of creation, without those that a
 * change is still under way on: these are logged, and left to server_free. The others are the
 * caller's from now on, who ends each of them with the two functions below. Control thread. */
GPtrArray *server_take_disks(struct server *s);
/* First: release a disk's exports, and flush it. False: a client that could not be ended is attached,
 * or a thread hangs in its plugin; this has been logged, and the disk is not to be closed. It blocks as long as the plugin does. Any
 * thread. */
bool server_settle_disk(struct server *s, struct disk *d);
/* Then: let the store know how its image is left, and close it. False: a thread hangs in its plugin
 * for good; this has been logged, and what it uses is still there. It blocks as long as the state
 * folder and the plugin do. Any thread. */
bool server_end_disk(struct server *s, struct disk *d);
const struct server_options *server_options(const struct server *s);
struct scratch_pool *server_scratch_pool(struct server *s);

/* All disks are added: with a store, they may be changed from now on. Before clients are let in. */
int server_start_store(struct server *s, GError **err);
/* How the disk's bitmaps were found at the start, for people; NULL: there is no store. */
const char *server_disk_recovery(const struct server *s, const struct disk *d);

/* Add a disk and its live export (named as the disk; the first disk's is also the default export
 * ""). Takes over `backend` also on failure. Before clients are let in. */
struct disk *server_add_disk(struct server *s, const char *name, struct backend *backend,
                             GError **err);
/* In order of creation; borrowed pointers, new array. Control thread. */
GPtrArray *server_disks(struct server *s);
GPtrArray *server_views(struct server *s); /* of all disks, by disk, oldest first */
struct node *server_find_node(struct server *s, const char *name); /* disk or view, or NULL */
struct disk *server_find_disk(struct server *s, const char *name);

/* Reserve `name` for a node that is about to be made, so that no other node gets it. 0, or -1 and
 * *err with QEMU's text: the name is not well-formed, is too long, or belongs to another node or is
 * reserved for one. Control thread. */
int server_reserve_node_name(struct server *s, const char *name, GError **err);
/* The same for a name that the server itself makes, of any form: one that no user can give. */
int server_reserve_own_node_name(struct server *s, const char *name, GError **err);
/* The node is there, or it will not be made after all. */
void server_release_node_name(struct server *s, const char *name);

/* The server ends: end all waiting (for turns, for an instant, for clients that are to leave) with
 * an error. Then wait for threads that work at a change, `ms` milliseconds at most. False: some
 * change has not ended. No change begins afterwards. Control thread. */
bool server_end_changes(struct server *s, unsigned ms);

/* Ask the main loop to end the server in order (any thread, signal-free): what SIGTERM, QMP quit
 * and nbdkit_shutdown do. start/ sets the function. */
void server_set_quit(struct server *s, void (*quit)(void *opaque), void *opaque);
void server_quit(struct server *s);

#endif
