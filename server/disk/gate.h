/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate of a disk: every change to the image (write, zero, trim) happens inside it; an instant
 * closes it, waits until nobody is inside, flips what it prepared, and opens it again.
 *
 * To enter costs one atomic addition on a counter that belongs to the connection and one load of a
 * word that hardly ever changes: connections do not share a written cache line.
 *
 * And the grace of a disk: readers of views are inside it while they may hold a pointer into the
 * chain of views or a slot number; whoever unlinks such a thing waits for those who came before.
 * Nobody waits to enter it.
 */
#ifndef DISK_GATE_H
#define DISK_GATE_H

#include "server/disk/futex.h"

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>

struct gate {
    futex_word closed;    /* 0 or 1 */
    futex_word left;      /* counts departures while closed: what the closer waits on */
    pthread_mutex_t lock; /* the list of slots */
    GList *slots;
};

/* One connection's counter of requests that are inside. Several threads may share it. */
struct gate_slot {
    _Alignas(64) atomic_uint inside;
    struct gate *gate;
    GList link;
};

void gate_init(struct gate *g);
void gate_destroy(struct gate *g); /* all slots are gone */
void gate_slot_add(struct gate *g, struct gate_slot *s);
void gate_slot_remove(struct gate_slot *s); /* nobody is inside */

void gate_wait_open(struct gate_slot *s); /* gate_enter's slow way */

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
    if (__builtin_expect(atomic_load(&s->gate->closed), 0)) {
        atomic_fetch_add(&s->gate->left, 1);
        futex_wake_all(&s->gate->left);
    }
}

/* The three of these and gate_close: control thread.
 *
 * Let nobody in from now on; who is inside stays. Not while shut. Several gates that are to be
 * closed at one instant are all shut before the first is drained: their guests then wait for the
 * longest drain and not for the sum of them. */
void gate_shut(struct gate *g);
/* Wait until nobody is inside a gate that is shut, at most until `deadline`
 * (g_get_monotonic_time). False: time ran out; the gate is still shut. */
bool gate_drain(struct gate *g, gint64 deadline);
void gate_open(struct gate *g);
/* Shut and drain one gate. False: time ran out, the gate is open again. */
bool gate_close(struct gate *g, gint64 deadline);

struct grace {
    atomic_uint phase;
    futex_word readers[2];
    atomic_uint waiting;
    pthread_mutex_t lock; /* one grace_wait at a time */
};

void grace_init(struct grace *g);
void grace_destroy(struct grace *g);
unsigned grace_enter(struct grace *g); /* never waits; give what it returns to grace_leave */
void grace_leave(struct grace *g, unsigned phase);
/* Returns when all who are inside now have left. Not from inside. */
void grace_wait(struct grace *g);
/* The same, at most until `deadline` (g_get_monotonic_time). False: somebody may still be inside.
 */
bool grace_wait_until(struct grace *g, gint64 deadline);

#endif
