/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which parts of a disk are being changed, where some changes must not overlap.
 *
 * A guest's unaligned write to a disk whose image takes whole blocks only reads its outer blocks,
 * changes some of their bytes and writes the blocks back. That must not undo what another change
 * has written to the other bytes meanwhile. So each change registers its blocks: shared with other
 * changes, or *alone* where it reads them first. Where two changes overlap and one of them is
 * alone, the later one waits until the earlier one is done. Changes of the tables of a qcow2 image
 * are all alone.
 *
 * A change waits only for changes that came before it. So none waits for ever, and no circle can
 * form, because each change takes one range and holds it to its end. While it holds its range, a
 * change may still wait for a block that another one copies for a view; that other one waits for no
 * range.
 *
 * Each change holds the lock for a few instructions. A change that is not alone looks at the others
 * only where one of them is alone. Disks that take any byte do not use this, and pay nothing.
 */
#ifndef COMMON_BASE_RANGE_LOCK_H
#define COMMON_BASE_RANGE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct held_range;

struct range_lock {
    pthread_mutex_t lock;
    pthread_cond_t left;             /* a change has released its range */
    struct held_range *first, *last; /* held or waited for, as they came */
    unsigned alone;                  /* how many of them are alone */
    unsigned waiting;                /* how many changes wait for theirs */
};

/* A change's part of the disk: bytes [begin, end). On its thread's stack. */
struct held_range {
    struct held_range *before, *after; /* in the lock's list */
    uint64_t begin, end;
    bool alone;
};

void range_lock_init(struct range_lock *l);
void range_lock_destroy(struct range_lock *l); /* no range is in it */

/* Register a range, and wait until no change that came before is in its way. Any thread; one range
 * a thread. */
void range_take(struct range_lock *l, struct held_range *r, uint64_t begin, uint64_t end,
                bool alone);
void range_release(struct range_lock *l, struct held_range *r);

/* How many changes wait now. For tests. */
unsigned range_lock_waiting(struct range_lock *l);

#endif
