/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The intent journal while a server runs: opens regions for writers (many of them with one sync),
 * closes them in the background, changes halves. Format: common/state/journal-format.h; the rules
 * between writers and the closing of regions: cover.h.
 *
 * Threads of its own: one writes the journal; another one closes regions that were not used for a
 * while, because a sync of bit files may take long.
 */
#ifndef STATE_JOURNAL_H
#define STATE_JOURNAL_H

#include "common/state/storage.h"
#include "server/state/cover.h"

struct journal;
struct journal_disk; /* a disk in it */

struct journal_options {
    uint64_t folder;      /* see struct journal_sector */
    unsigned patience_ms; /* so long a writer waits for its regions: 5000 */
    unsigned idle_ms;     /* regions that were not used for so long are closed: 10000 */
    bool break_guest_write;
    /* The journal cannot be kept: with !break_guest_write, writers go on from now on without it
     * (all regions count as open), and bitmaps must become inconsistent. Called once, before the
     * first such writer goes on; any thread. */
    void (*failed)(void *opaque, const char *reason);
    void *opaque;
};

struct journal_disk_options {
    int64_t id;          /* catalogue_disk.id */
    struct cover *cover; /* its `regions`, `open`, `opaque` are the journal's to set */
    /* Is nobody counted under that phase any more (all lines of the disk)? Any thread. */
    bool (*phase_left)(void *opaque, unsigned phase);
    /* Sync all bit files that changes of the disk go into, new ones of an instant included. -1: it
     * has dealt with the failure (broken); regions stay open. */
    int (*sync_bits)(void *opaque);
    void *opaque;
};

/* Make the file `intent` anew (recovery is over), with nothing open. */
struct journal *journal_new(struct storage *s, const struct journal_options *o, GError **err);
struct journal_disk *journal_add_disk(struct journal *j, const struct journal_disk_options *o,
                                      GError **err);
/* Nobody changes the disk any more. Regions that are open stay so in the file. `phase_left` and
 * `sync_bits` are not called any more, unless -1 is returned: then sync_bits has not come back for
 * `patience_ms`, and `opaque` must stay valid for it. */
int journal_remove_disk(struct journal_disk *d);
/* Close what can be closed now, as after a long idle time: for tests and for the end. -1: something
 * stays open. Waits; any thread. */
int journal_close_all(struct journal *j, GError **err);
/* Try to begin anew after a failure, in a new file, with all regions that are open (as far as
 * known) in its snapshot. 0 also where nothing had failed. Any thread but the control thread;
 * waits, a limited time. */
int journal_revive(struct journal *j, GError **err);
/* No disk is left. A thread that hangs in I/O is left alone after `patience_ms`: -1 is returned,
 * which is logged, too, and the storage must stay valid for it. */
int journal_free(struct journal *j);

/* Since the start, for metrics and tests. */
struct journal_stats {
    uint64_t syncs, batches, opened, closed; /* regions */
    uint64_t open;                           /* regions that the file says are open, now */
    unsigned waiting;                        /* writers, now */
};
void journal_stats(struct journal *j, struct journal_stats *stats);

#endif
