/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why nobody slips through: a thread that enters adds to `inside` and then loads `closed`; the
 * thread that closes stores `closed` and then loads every `inside`. Both orders are sequentially
 * consistent, so at least one sees the other: either the newcomer sees a closed gate and steps
 * back, or the closer sees the newcomer and waits.
 *
 * Why a drain ends: a thread that leaves subtracts from `inside` and then loads `closed`. If it
 * sees an open gate, it subtracted before the gate was shut, and the closer does not see it inside.
 * If it sees a closed gate, it takes the lock and looks whether anybody is still inside. The closer
 * sets `drained` and looks under the same lock. So the thread that leaves last either holds the
 * lock after the closer, finds `drained` and nobody inside, and calls it; or it held the lock
 * before the closer, which then finds nobody inside. A newcomer that steps back leaves as well: if
 * others took it for somebody inside, it looks itself, later than they did.
 */
#include "server/disk/gate.h"

void gate_init(struct gate *g)
{
    atomic_init(&g->closed, 0);
    pthread_mutex_init(&g->lock, NULL);
    g->slots = NULL;
    g->drained = NULL;
}

void gate_destroy(struct gate *g)
{
    g_assert(!g->slots);
    pthread_mutex_destroy(&g->lock);
}

void gate_slot_add(struct gate *g, struct gate_slot *s)
{
    atomic_init(&s->inside, 0);
    s->gate = g;
    s->link = (GList){.data = s};
    pthread_mutex_lock(&g->lock);
    g->slots = g_list_concat(&s->link, g->slots);
    pthread_mutex_unlock(&g->lock);
}

void gate_slot_remove(struct gate_slot *s)
{
    pthread_mutex_lock(&s->gate->lock);
    s->gate->slots = g_list_remove_link(s->gate->slots, &s->link);
    pthread_mutex_unlock(&s->gate->lock);
}

void gate_wait_open(struct gate_slot *s)
{
    do {
        gate_leave(s);
        while (atomic_load(&s->gate->closed))
            futex_wait(&s->gate->closed, 1, NULL);
        atomic_fetch_add(&s->inside, 1);
    } while (atomic_load(&s->gate->closed));
}

/* Under the lock. */
static bool anybody_inside(const struct gate *g)
{
    for (GList *l = g->slots; l; l = l->next)
        if (atomic_load(&((struct gate_slot *)l->data)->inside) != 0)
            return true;
    return false;
}

void gate_left(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    if (g->drained && !anybody_inside(g)) {
        g->drained(g->opaque);
        g->drained = NULL;
    }
    pthread_mutex_unlock(&g->lock);
}

void gate_shut(struct gate *g)
{
    g_assert(!atomic_load(&g->closed));
    atomic_store(&g->closed, 1);
}

bool gate_drain_start(struct gate *g, void (*drained)(void *opaque), void *opaque)
{
    bool empty;

    pthread_mutex_lock(&g->lock);
    g_assert(!g->drained);
    empty = !anybody_inside(g);
    if (!empty) {
        g->drained = drained;
        g->opaque = opaque;
    }
    pthread_mutex_unlock(&g->lock);
    return empty;
}

bool gate_drain_cancel(struct gate *g)
{
    bool waiting;

    pthread_mutex_lock(&g->lock);
    waiting = g->drained != NULL;
    g->drained = NULL;
    pthread_mutex_unlock(&g->lock);
    return waiting;
}

void gate_open(struct gate *g)
{
    atomic_store(&g->closed, 0);
    futex_wake_all(&g->closed);
}

static void note_drained(void *opaque)
{
    futex_word *drained = opaque;

    atomic_store(drained, 1);
    futex_wake_all(drained);
}

bool gate_drain(struct gate *g, gint64 deadline)
{
    futex_word drained = 0;

    if (gate_drain_start(g, note_drained, &drained))
        return true;
    while (!atomic_load(&drained)) {
        gint64 rest = deadline - g_get_monotonic_time();

        if (rest <= 0)
            break;
        futex_wait(&drained, 0,
                   &(struct timespec){.tv_sec = rest / G_USEC_PER_SEC,
                                      .tv_nsec = rest % G_USEC_PER_SEC * 1000});
    }
    return !gate_drain_cancel(g);
}

bool gate_close(struct gate *g, gint64 deadline)
{
    gate_shut(g);
    if (gate_drain(g, deadline))
        return true;
    gate_open(g);
    return false;
}
