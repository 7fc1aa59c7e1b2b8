/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A wait for something that may never happen: it has an end, and others can end it sooner.
 *
 * The thread that waits and the thread that it waits for each hold a reference. So if the latter
 * comes too late, the lock is still there, and with it the note that nobody waits any more.
 */
#ifndef COMMON_BASE_PATIENCE_H
#define COMMON_BASE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

struct patience;

/* The caller gets one reference. NULL: there is no memory. `is_over` (NULL: never) says whether the
 * wait has become pointless, which it may become without a patience_wake: it is called once a
 * second at least. Only the thread that waits calls it, with the lock held or not. */
struct patience *patience_new(bool (*is_over)(void *opaque), void *opaque);
struct patience *patience_ref(struct patience *p);
void patience_unref(struct patience *p);

/* The lock is a leaf, and held for moments only. */
void patience_lock(struct patience *p);
void patience_unlock(struct patience *p);
/* Call with the lock held: wait until somebody calls patience_wake, or it is time to look again.
 * False: do not wait any longer, since it is over, or `until` (deadline.h; 0: no end) has passed.
 * */
bool patience_wait(struct patience *p, int64_t until);
/* Has the wait become pointless? For the thread that waits. */
bool patience_is_over(const struct patience *p);
/* Note that this thread does not wait any more for another one, which may still work for it. For
 * the thread that waits. */
void patience_abandon(struct patience *p);
bool patience_has_abandoned(const struct patience *p);
/* Make the thread that waits look again. Any thread, without the lock. */
void patience_wake(struct patience *p);

#endif
