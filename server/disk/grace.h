/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The grace of a disk, as RCU's. Readers of views are inside it while they may hold a pointer into
 * the chain of views or a slot number. Whoever takes such a thing out of the chain frees it by
 * grace_call: when all readers have left who were inside then. Nobody waits to enter, and a reader
 * that hangs makes nobody wait: what it may hold is freed when it leaves.
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
    pthread_mutex_t lock; /* a leaf; all below, and who turns the phase */
    GQueue next;          /* calls that have come since the phase was turned */
    GQueue now;           /* calls that wait for the readers of the phase before */
    futex_word calling;   /* threads that make calls just now */
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

/* Have `fn(opaque)` called once, when all who are inside now have left: by the caller before this
 * returns, or by the thread of the last of them. No thread makes more calls than those that were
 * ready when it called this or left, in the order in which they came; two threads may make theirs
 * at the same time. Any thread, also from inside; `fn` may call this too, and must not wait for
 * readers. */
void grace_call(struct grace *g, void (*fn)(void *opaque), void *opaque);

/* Wait until all has been called that came before. For tests; neither from inside nor from `fn`. */
void grace_wait(struct grace *g);

#endif
