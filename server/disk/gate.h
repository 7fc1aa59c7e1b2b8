/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate of a disk: every change to the image (write, zero, trim) happens inside it. An instant
 * shuts it, drains it (lets those that are inside leave), flips what it prepared, and opens it
 * again.
 *
 * To enter costs one atomic addition on a counter that belongs to the connection and one load of a
 * word that hardly ever changes: connections do not share a written cache line.
 */
#ifndef DISK_GATE_H
#define DISK_GATE_H

#include "server/disk/futex.h"
#include "server/disk/io-stats.h"

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct gate {
    futex_word closed;    /* 0 or 1 */
    pthread_mutex_t lock; /* all below */
    GList *slots;
    void (*drained)(void *opaque); /* NULL: nobody waits for those who are inside */
    void *opaque;
};

/* One connection's counter of changes that are inside. Several threads may share it. What else the
 * connection counts is beside it, reads and writes in the same cache line. */
struct gate_slot {
    _Alignas(64) atomic_uint inside;
    struct gate *gate;
    struct io_counters counters; /* what the connection's own thread has done */
    GList link;
    _Alignas(64) struct io_counters offloaded; /* what its workers have done; shared */
};

_Static_assert(offsetof(struct gate_slot, counters.done[IO_WRITE + 1]) <= 64,
               "common requests are counted in the line of `inside`");

void gate_init(struct gate *g);
void gate_destroy(struct gate *g); /* all slots are gone */
void gate_slot_add(struct gate *g, struct gate_slot *s);
void gate_slot_remove(struct gate_slot *s); /* nobody is inside */

/* The slow ways of gate_enter and gate_leave. */
void gate_wait_open(struct gate_slot *s);
void gate_left(struct gate *g);

/* Waits while the gate is closed. Not recursive. */
static inline void gate_enter(struct gate_slot *s)
{
    atomic_fetch_add(&s->inside, 1);
    if (__builtin_expect(atomic_load(&s->gate->closed), 0))
        gate_wait_open(s);
}

static inline void gate_leave(struct gate_slot *s)
{
    atomic_fetch_sub(&s->inside, 1);
    if (__builtin_expect(atomic_load(&s->gate->closed), 0))
        gate_left(s->gate);
}

/* All that follow: control thread. A gate is shut, drained, and opened; or shut, its drain is
 * cancelled, and it is opened.
 *
 * Let no change in from now on; those that are inside stay. Not while the gate is shut. Several
 * gates that are to be closed at one instant are all shut before the first is drained: their guests
 * then wait for the longest drain and not for the sum of them. */
void gate_shut(struct gate *g);

/* Has every change left a gate that is shut? True: yes, and `drained` is not called. False: it is
 * called once, by the thread that leaves last. It runs under the gate's lock: it must be short and
 * must not call the gate. One drain at a time. */
bool gate_drain_start(struct gate *g, void (*drained)(void *opaque), void *opaque);
/* When this returns, `drained` is not running and is not called any more. False: it was called, or
 * there was no drain. The gate stays shut. */
bool gate_drain_cancel(struct gate *g);

void gate_open(struct gate *g);

/* The blocking forms, for those who may wait.
 *
 * Wait until nobody is inside a gate that is shut, at most until `deadline`
 * (g_get_monotonic_time). False: time ran out; the gate is still shut. */
bool gate_drain(struct gate *g, gint64 deadline);
/* Shut and drain one gate. False: time ran out, the gate is open again. */
bool gate_close(struct gate *g, gint64 deadline);

#endif
