/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A wait for somebody who may never come: it ends in time, and others can end it.
 *
 * Who waits and who is waited for each hold a reference, so that the one who comes too late finds
 * the lock still there, and what it guards told him.
 */
#ifndef COMMON_BASE_PATIENCE_H
#define COMMON_BASE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

struct patience;

/* One reference. `is_over` (NULL: never) says whether the wait is pointless by now; it is asked
 * by who waits, under the lock too. */
struct patience *patience_new(bool (*is_over)(void *opaque), void *opaque);
struct patience *patience_ref(struct patience *p);
void patience_unref(struct patience *p);

/* The lock: a leaf, held for moments only. */
void patience_lock(struct patience *p);
void patience_unlock(struct patience *p);
/* Locked: wait until somebody calls patience_wake. False: do not wait any longer, for it is over or
 * `until` has passed (g_get_monotonic_time, 0: no end). */
bool patience_wait(struct patience *p, int64_t until);
/* Is the wait pointless by now? Who waits. */
bool patience_is_over(const struct patience *p);
/* Note that somebody is not waited for any more and may still be at work for us. Who waits. */
void patience_abandon(struct patience *p);
bool patience_has_abandoned(const struct patience *p);
/* Have who waits look again. Any thread; not with the lock held. */
void patience_wake(struct patience *p);

#endif
