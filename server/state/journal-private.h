/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the journal share. Their order: journal.c, journal-close.c, journal-batch.c. */
#ifndef STATE_JOURNAL_PRIVATE_H
#define STATE_JOURNAL_PRIVATE_H

#include "server/state/journal-file.h"
#include "server/state/journal-storm.h"
#include "server/state/journal-table.h"
#include "server/state/journal.h"

#include <pthread.h>

enum journal_state {
    JOURNAL_GOOD,
    JOURNAL_FAILING, /* options.failed is being called; writers wait for it */
    JOURNAL_FAILED,
    JOURNAL_TRYING, /* a new file is being made after a failure */
};

/* Regions that a writer waits for; on its stack. */
struct ask {
    GList link; /* in journal.asks; data is the ask */
    struct journal_disk *disk;
    uint64_t first, last;
    bool queued;
};

/* How far the closing of a disk's regions has come. */
enum disk_stage {
    DISK_STEADY,
    DISK_TURNED, /* some regions are CLOSING; the round waits for writers of the phase before */
    DISK_SYNCED, /* the bits are synced: the next batch closes what is CLOSING then */
};

struct journal_disk {
    struct journal *journal;
    struct journal_disk_options o;
    /* With the lock: */
    struct region_table table;
    struct storm storm;
    enum disk_stage stage;
    bool called;  /* a function of `o` is being called */
    bool removed; /* journal_remove_disk has begun */
    unsigned refs;
};

struct journal {
    struct storage *storage;
    struct journal_options o;
    struct journal_file *file; /* the writing thread's; NULL after a failure */

    pthread_mutex_t lock; /* a leaf; guards what follows */
    pthread_cond_t work;  /* there is something for the writing thread */
    pthread_cond_t look;  /* likewise, for the closing one */
    pthread_cond_t done;  /* one of them has done something */
    GPtrArray *disks;
    GArray *left; /* regions of disks that were removed, which the file says are open */
    GQueue asks;  /* what writers wait for and no batch has taken yet */
    enum journal_state state;
    char *reason;      /* of the last failure */
    uint64_t failures; /* attempts to write that have failed */
    int64_t next_try;  /* break_guest_write: no writer has a new file tried before */
    bool busy;         /* the writing thread does I/O */
    int64_t sync_us;   /* what a batch takes, smoothed */
    uint64_t revive_asked, revive_done; /* journal_revive's calls */
    uint64_t close_asked, close_done;   /* journal_close_all's */
    bool stop;
    bool writer_runs, closer_runs;
    pthread_t writer, closer;
    struct journal_stats stats;
};

static inline struct journal_disk *journal_disk_ref(struct journal_disk *d)
{
    d->refs++;
    return d;
}

/* With the lock. */
static inline void journal_disk_unref(struct journal_disk *d)
{
    if (--d->refs > 0)
        return;
    table_destroy(&d->table);
    g_free(d);
}

#endif
