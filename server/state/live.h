/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files `live` (common/state/live-file.h) while a server runs: the lines of clients and disks, and
 * the lease.
 *
 * A thread of its own stamps the head's `alive` five times a second while a change is under way. It
 * does no I/O. When nothing is under way it only looks at the clock.
 */
#ifndef STATE_LIVE_H
#define STATE_LIVE_H

#include "common/state/live-file.h"

struct live;

/* See failure.h. */
struct live_events {
    void (*lost)(void *opaque); /* the counts of changes under way are gone */
    void *opaque;
};

/* Make the files anew. The lease is durable until `lease` (ns since 1970). memory: the memory folder,
 * which stays as long; NULL, or where it cannot be used (logged): the lines end with the process. */
struct live *live_new(struct storage *s, struct storage *memory, const char *boot_id, int64_t lease,
                      const struct live_events *events, GError **err);
/* A line for a disk (catalogue_disk.id) or a client of it. NULL: all are taken. Any thread. */
struct live_line *live_take(struct live *l, int64_t disk);
/* Give it back; `to` (NULL: none) remembers when it was last used. Nothing is counted in it any more.
 * Any thread. */
void live_give(struct live *l, struct live_line *line, struct live_line *to);
/* Is no change of the disk under way that was counted under this phase (cover.h)? Any thread. */
bool live_phase_left(struct live *l, int64_t disk, unsigned phase);
/* When a disk was last changed, as far as its lines know. */
struct live_last live_now(struct live *l, int64_t disk);
/* The folder is in order: have the lease end later, durably. Waits. One thread at a time. */
int live_extend_lease(struct live *l, int64_t until, GError **err);
void live_free(struct live *l); /* the files stay */

#endif
