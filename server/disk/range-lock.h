/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which parts of a disk are being changed, for disks whose image takes whole blocks only.
 *
 * There a guest's unaligned write is made up for by reading its outer blocks, changing some of
 * their bytes and writing them back, which must not undo what somebody else has written to the
 * other bytes meanwhile. So each change registers its blocks, shared with other changes, or *alone*
 * where it reads them first; who would meet somebody waits until that one is done.
 *
 * They wait in the order in which they came, and only for who came before: so nobody waits for
 * ever, and no circle can form, for each change takes one range and holds it to its end. What
 * a change may wait for while it holds one (a block that another copies for a view) is done by
 * somebody who waits for no range.
 *
 * A lock of a few instructions for each change; a change that is not alone looks at the others only
 * where one of them is. Disks that take any byte have no use for it, and pay nothing.
 */
#ifndef DISK_RANGE_LOCK_H
#define DISK_RANGE_LOCK_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct range_lock {
    pthread_mutex_t lock;
    pthread_cond_t left; /* one of them has gone */
    GQueue ranges; /* links of struct held_range, as they came: those that have it, and who waits */
    unsigned alone;   /* so many of them are alone */
    unsigned waiting; /* so many wait */
};

/* A change's part of the disk: bytes [begin, end). On its thread's stack. */
struct held_range {
    GList link;
    uint64_t begin, end;
    bool alone;
};

void range_lock_init(struct range_lock *l);
void range_lock_destroy(struct range_lock *l); /* nobody is in it */

/* Returns when no change that came before is in the way. Any thread; one range a thread. */
void range_take(struct range_lock *l, struct held_range *r, uint64_t begin, uint64_t end,
                bool alone);
void range_release(struct range_lock *l, struct held_range *r);

/* How many wait now: for tests. */
unsigned range_lock_waiting(struct range_lock *l);

#endif
