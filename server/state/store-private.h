/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the store share. store.c begins with an explanation of it all.
 *
 * Locks, in the order in which they are taken:
 *
 *   catalogue_lock   the catalogue, and all rows in memory. Held during I/O on the folder, which may
 *                    hang: never taken by the control thread while the server serves.
 *   events_lock      a disk's: its events do not go while one is told. Held while the disk is told.
 *   sync_lock        one of each stored bits, while they are written to the folder.
 *   lock             lists of bits, and what is known of each. Never held during I/O: a leaf.
 */
#ifndef STATE_STORE_PRIVATE_H
#define STATE_STORE_PRIVATE_H

#include "common/state/bit-file.h"
#include "common/state/memory.h"
#include "common/state/note.h"
#include "common/state/recovery.h"
#include "server/state/failure.h"
#include "server/state/jobs.h"
#include "server/state/journal.h"
#include "server/state/live.h"
#include "server/state/store.h"

#include <pthread.h>

/* So often failures that the catalogue does not know yet are written again, and a new lease is given
 * (LIVE_LEASE_NS). */
#define TICK_MS 30000u

struct stored_bits;

struct store {
    atomic_uint references; /* one of store_close's, one of each stored_bits */
    struct storage *storage;
    char *path;
    bool power, break_guest_write;
    unsigned patience_ms;
    struct recovery *recovery;
    uint64_t run;
    struct memory *memory;      /* NULL: there is none, bits end with the process */
    struct state_lasting views; /* `memory` NULL: views end with the process */
    char *boot_id;              /* its */
    struct live *live;
    struct journal *journal;                   /* NULL: --durability process */
    void (*bits_lost)(struct stored_bits *sb); /* somebody took their memory away */
    void (*renew)(void *store);                /* a file of bits is stuck. Jobs' thread. */
    atomic_bool any_stuck;                     /* perhaps */

    pthread_mutex_t catalogue_lock; /* of this block */
    struct catalogue *catalogue;
    struct catalogue_folder folder;
    GPtrArray *known;   /* struct state_disk: all that the catalogue has, and new ones; owned */
    GPtrArray *records; /* struct catalogue_record, owned, in order of creation */
    bool begun;         /* the transaction of the start is open */
    bool started;
    bool hopeless; /* a disk could not be attached: there will be no start */
    bool unclean;  /* something could not be written: the folder stays in use, or may be */
    bool hung;     /* a thread that hangs uses the store: it is not freed */

    pthread_mutex_t lock; /* of this block, and of what stored_bits say */
    struct jobs *jobs;    /* NULL: it has ended */
    bool closed;          /* bits that are left are nobody's any more */
    bool journal_failed;  /* and guests go on without it */
    bool failing;         /* a failure is not yet in the catalogue; the note says so */
    bool lasting;         /* the lasting note was made */
    bool settle_failed;   /* and that was logged */
    /* The catalogue may have what a transaction without a known outcome has made. Changes with both
     * locks held. */
    bool differs;
    bool lease_failed;    /* likewise */
    bool said_incomplete; /* the jobs' thread's */
};

/* A disk of the catalogue. */
struct state_disk {
    struct store *store;
    struct catalogue_disk row; /* catalogue_lock, as `bitmaps` */
    GPtrArray *bitmaps;        /* struct catalogue_bitmap, owned, in order of creation */
    atomic_uint resizes;       /* that have begun */
    bool attached, detached, is_new, transient;
    char *stale; /* disk_state's */
    /* store-names.h; NULL: they are as in `row` */
    char *name_before, *image_before; /* in the catalogue, before this start changes it */
    /* set by store_attach */
    struct cover cover;
    struct live_line *line; /* when clients that have gone changed it last */
    struct journal_disk *journal;
    GPtrArray *bits; /* struct stored_bits: lock */
    pthread_mutex_t events_lock;
    struct state_disk_events events; /* events_lock; `broken` NULL: nobody is told any more */
};

/* Bits that the store has made. One reference is the bitmap's. */
struct stored_bits {
    atomic_uint references;
    struct state_disk *disk;
    struct bitmap *bits; /* no reference; to be compared only; lock. NULL: it is gone */
    uint64_t *words;
    size_t length; /* bytes at `words` */
    uint64_t size;
    uint32_t granularity;
    /* Set before anybody but their maker has the bits. */
    struct bit_file *memory;   /* mapped at `words`; NULL: they are memory of the process */
    struct mapping *guard;     /* NULL: likewise */
    pthread_mutex_t sync_lock; /* of the next; held during I/O on the folder */
    uint16_t *written;         /* bits of each page that `file` has */
    atomic_bool stuck;         /* `file` could not be written: it never is again */
    /* lock */
    struct bit_file *file;      /* the folder's. NULL: there is none yet, or none any more */
    char uuid[STATE_UUID_SIZE]; /* of the file */
    bool catalogued;            /* a row names it */
    bool dropped;               /* no row will name it any more; its file is unlinked */
    char *broken;               /* why they are not to be trusted */
    bool noting, noted;         /* broken; the open transaction, the catalogue says so */
};

#endif
