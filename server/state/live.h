/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file `live` (common/state/live-file.h) while a server runs: the lines of clients and disks.
 *
 * A thread of its own stamps the head's `alive` five times a second while a change is under way. It
 * does no I/O but through the mapping, so a sync that hangs does not stop it. When nothing is under
 * way it only looks at the clock.
 */
#ifndef STATE_LIVE_H
#define STATE_LIVE_H

#include "common/state/live-file.h"

struct live;

/* Make the file anew. It is durable with a lease until `lease` (ns since 1970). `lost` is called (see
 * failure.h) when somebody takes the file away: then the counts of changes under way are gone. */
struct live *live_new(struct storage *s, const char *boot_id, int64_t lease,
                      void (*lost)(void *opaque), void *opaque, GError **err);
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
void live_free(struct live *l); /* the file stays */

#endif
