/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What disks ask of a store in which their bitmaps survive the server, as a table of functions, so
 * that tests of server/disk/ can have a store of their own. store.h is the real one.
 *
 * A QMP transaction is one instant (server/disk/instant.h) and one transaction of the catalogue.
 * They are two moments, in this order:
 *
 *   1. bits_attach, prepare   new bit files are made, and synced with what was copied to them; all
 *                             that can fail for want of room fails here
 *   2. the flip               under shut gates: the trackers record into the old bits *and* the new
 *                             ones. Nothing else changes: lists, names, sizes stay.
 *   3. commit                 gates open, guests write: the catalogue's transaction becomes durable
 *   4. publish                the control thread puts the new bits, the lists and sizes in place, and
 *                             has the old bits recorded no more (that needs no shut gate)
 *   5. end                    old files are unlinked
 *
 * If the process dies before 3 is durable, all is as it was, and the old bits have every change; if
 * it dies later, all has happened, and the new bits have every change since the flip. If the
 * drain gives up, nothing was committed. If 3 fails, the new bits are dropped, nothing was ever
 * published, and the command fails.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "common/base/bitmap.h"
#include "common/state/storage.h"
#include "server/state/cover.h"

#include <glib.h>
#include <stdbool.h>

struct state_disk; /* a disk, as the store knows it */

/* A bitmap as it will be after an instant. All bitmaps of the disks concerned are told, those
 * that stay as they are, too. */
struct state_change {
    struct state_disk *disk;
    const char *bitmap;  /* its name */
    struct bitmap *bits; /* NULL: it is removed */
    uint64_t size;       /* bytes that `bits` covers */
    uint32_t granularity;
    bool recording;
    bool persistent;          /* else the store forgets it, if it knew it */
    const char *inconsistent; /* why it is; NULL: it is good. It has bits all the same. */
};

/* A record: a text that the store keeps for somebody above it, by kind and name. What it says is
 * nothing to the store. It changes with the other changes of its transaction, or not at all. */
struct state_record {
    const char *kind, *name; /* copied; at most STATE_MAX_RECORD_NAME bytes each */
    /* The text, at most STATE_MAX_RECORD bytes of UTF-8, not NULL; g_free(). Called at most once, by
     * commit, on its thread, with no lock held: after the flip, before anything is published. What is
     * not UTF-8 in it is replaced by U+FFFD; a text that cannot be kept fails the commit. NULL: the
     * record is removed, if it is there. */
    char *(*text)(void *opaque);
    void *opaque;
};

#define STATE_MAX_RECORD_NAME 1023
#define STATE_MAX_RECORD      (1u << 20)

struct state_transaction; /* the store's */

struct state_ops {
    /* Clean bits for a persistent bitmap. Only address space: no file is made, nothing waits. They
     * may be dropped without having been part of an instant. Any thread. */
    struct bitmap *(*bits_new)(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err);
    /* Give bits of bits_new their files; what was set in them so far goes there. Nobody else sets
     * any meanwhile. A worker thread; may take long. */
    int (*bits_attach)(struct state_disk *d, struct bitmap *bits, GError **err);

    /* A resize of the disk to `size` is about to begin: after a crash the image may have either
     * size. Durable when it returns. It ends with the transaction (size of state_change) or with
     * resize_cancel. A worker thread. */
    int (*resize_begin)(struct state_disk *d, uint64_t size, GError **err);
    void (*resize_cancel)(struct state_disk *d); /* the image has its old size. Control thread. */

    /* Step 1. A worker thread. -1: nothing follows. */
    int (*prepare)(void *store, const struct state_change *changes, unsigned n,
                   struct state_transaction **t, GError **err);
    /* A record that is to change in this transaction; the last one of the same kind and name counts,
     * and only that one is asked for its text. Between prepare and commit, by one thread at a time. */
    void (*record)(struct state_transaction *t, const struct state_record *record);
    /* Step 3. A worker thread. -1: it has not happened. Several transactions, over different disks,
     * may be between prepare and end at once. */
    int (*commit)(void *store, struct state_transaction *t, GError **err);
    /* Step 5, also after a failure between prepare and here. Control thread; does not wait. */
    void (*end)(void *store, struct state_transaction *t, bool committed);
    /* What the store has of the disk's bitmaps is not true any more and will not be mended: they are
     * inconsistent, with this reason. Before the disk stops to mark changes in the bits that the
     * store knows. Any thread; does not wait. It may tell the disk (state_disk_events). */
    void (*broken)(struct state_disk *d, const char *reason);

    /* A client's line (live-file.h), for cover_enter; never NULL. Any thread. */
    struct live_line *(*line_take)(struct state_disk *d);
    void (*line_give)(struct state_disk *d, struct live_line *line);
};

/* What a store tells a disk. Any thread, perhaps with the store's locks held; must not call the
 * store. */
struct state_disk_events {
    /* Something in the store has failed: the bitmap with these bits (NULL: each persistent one of
     * the disk) does not survive any more and is inconsistent from now on, with this reason. */
    void (*broken)(void *opaque, const struct bitmap *bits, const char *reason);
    void *opaque;
};

/* What a store has for views that are to survive the process (server/disk/lasting.h). The same for all
 * of its disks, as long as the store is open. */
struct state_lasting {
    struct storage *memory; /* of the memory folder, with a folder STATE_VIEWS */
    const char *folder;     /* the state folder's UUID */
    const char *boot_id;    /* of the machine now */
    uint64_t run;           /* of this server; not 0 */
    uint64_t run_before; /* of the last server that has used the state folder; 0: there is none */
};

/* A disk's way to the store; in disk_config. */
struct disk_state {
    const struct state_ops *ops; /* NULL: there is no store */
    void *store;
    struct state_disk *disk;
    struct cover *cover;
    const struct state_lasting *lasting; /* NULL: views end with the process */
    int64_t id;                          /* of the disk; > 0, never given to another one */
    /* Why no view of an earlier server fits the image as it is; NULL: they do. The store's, valid
     * until the disk is detached. */
    const char *stale;
};

#endif
