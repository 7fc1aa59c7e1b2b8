/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate of a disk: every change to the image (write, zero, trim) happens inside it; an instant
 * closes it, waits until nobody is inside, flips what it prepared, and opens it again.
 *
 * To enter costs one atomic addition on a counter that belongs to the connection and one load of a
 * word that hardly ever changes: connections do not share a written cache line.
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

#endif
