/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The grace of a disk, as RCU's. Readers of views are inside it while they may hold a pointer into
 * the chain of views or a slot number. A thread that takes such a thing out of the chain frees it
 * by grace_call: it is freed when all readers that were inside then have left. Nobody waits to
 * enter. A reader that hangs makes nobody wait: what it may hold is freed when it leaves.
 */
#ifndef DISK_GRACE_H
#define DISK_GRACE_H

#include "server/disk/futex.h"

#include <glib.h>
#include <pthread.h>

struct grace {
    atomic_uint phase;
    atomic_uint readers[2];
    atomic_uint waiting;  /* is there anything in `now`? */
    pthread_mutex_t lock; /* a leaf; guards all below, and the turning of the phase */
    GQueue next;          /* calls that have come since the phase was turned */
    GQueue now;           /* calls that wait for the readers of the phase before */
    futex_word calling;   /* how many threads make calls just now */
};

void grace_init(struct grace *g);
void grace_destroy(struct grace *g);   /* nobody is inside, and so all has been called */
unsigned grace_enter(struct grace *g); /* never waits; give what it returns to grace_leave */

void grace_left(struct grace *g); /* grace_leave's slow way */

static inline void grace_leave(struct grace *g, unsigned phase)
{
    if (atomic_fetch_sub(&g->readers[phase], 1) == 1 && atomic_load(&g->waiting) &&
        (atomic_load(&g->phase) & 1) != phase)
        grace_left(g);
}

/* Have `fn(opaque)` called once, when all readers that are inside now have left. It is called by
 * this thread before grace_call returns, or by the thread of the last of those readers. A thread
 * makes only the calls that were ready when it called grace_call or left, in the order in which
 * they came. Two threads may make theirs at the same time. Any thread, also from inside; `fn` may
 * call grace_call, too, and must not wait for readers. */
void grace_call(struct grace *g, void (*fn)(void *opaque), void *opaque);

/* Wait until all earlier calls have been made. For tests; neither from inside nor from `fn`. */
void grace_wait(struct grace *g);

#endif
