/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store of a server: a state folder that it has open, with the catalogue, the bit files and the
 * journal. Control thread, but for what state.h says of the operations.
 */
#ifndef STATE_STORE_H
#define STATE_STORE_H

#include "common/state/identity.h"
#include "server/state/state.h"

struct store;

struct store_options {
    const char *path;       /* of the folder */
    bool power;             /* --durability power: with a journal */
    bool break_guest_write; /* --on-state-error */
    unsigned patience_ms;   /* how long a guest's write waits for the folder; 0: 5000 */
};

/* Open the folder (made if it is not there) and recover. What was done is logged. NULL and *err. */
struct store *store_open(const struct store_options *o, GError **err);
/* The same over a storage; takes it over, also on failure. For tests. */
struct store *store_open_storage(struct storage *s, const struct store_options *o, GError **err);
extern const struct state_ops store_ops;
const char *store_path(const struct store *s);

/* How the last server ended, a sentence for people: "the machine was restarted". NULL: in order. The
 * store's. */
const char *store_last_end(const struct store *s);

/* A bitmap that was found. */
struct store_bitmap {
    char *name;
    struct bitmap *bits; /* NULL where it is inconsistent */
    uint32_t granularity;
    bool recording;
    char *inconsistent; /* why; NULL: it is good */
};

/* A disk is going to be served. *bitmaps: GArray of struct store_bitmap, in order of creation, the
 * caller's. Where the image does not fit what the catalogue knows of it, they are inconsistent, and
 * that is durable after store_start; those of another image are kept (store-names.h). state->{ops,store,disk,cover} are set. -1 and *err: the folder
 * failed; there will be no start then. *recovered (g_free): what was done, for people: "exact",
 * "widened by 4194304 bytes after power loss", "inconsistent: REASON", "new". */
int store_attach(struct store *s, const char *name, uint64_t size,
                 const struct image_identity *identity, const struct state_disk_events *events,
                 struct disk_state *state, GArray **bitmaps, char **recovered, GError **err);
void store_bitmaps_free(GArray *bitmaps);
/* All disks are attached, nobody has changed any yet: the catalogue says that the folder is in use.
 * -1 and *err: the folder failed; or a disk has the image of another one that was not attached and
 * has good bitmaps (it was renamed; `fleecectl state adopt` is named). Then the catalogue stays as it
 * was. */
int store_start(struct store *s, GError **err);
/* A disk is no longer changed, was flushed and is still open: its bits are sealed, and how the image
 * was left is noted. identity NULL: it could not be flushed, and is left as after a crash. Waits. Any
 * thread; several disks at once. */
void store_detach(struct store *s, struct state_disk *d, const struct image_identity *identity);
/* All disks are detached. False: the folder could not be left in order, or something hangs in it. That
 * is logged, and the next start recovers. Waits, a limited time. */
bool store_close(struct store *s);

/* A record (state.h). */
struct store_record {
    char *kind, *name, *text;
};

/* Those of one kind, in order of creation: GArray of struct store_record, which clears its elements.
 * Records that store_open found damaged are not there; that has been logged. Before clients are let
 * in: later it would wait for transactions under way. */
GArray *store_records(struct store *s, const char *kind);

#endif
