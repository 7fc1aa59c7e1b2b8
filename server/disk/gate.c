/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why nobody slips through: who enters adds to `inside` and then loads `closed`; who closes stores
 * `closed` and then loads every `inside`. Both orders are sequentially consistent, so at least one
 * sees the other: either the newcomer sees a closed gate and steps back, or the closer sees him and
 * waits. The same argument with `left` makes sure that the closer's last sleep ends.
 */
#include "server/disk/gate.h"

void gate_init(struct gate *g)
{
    atomic_init(&g->closed, 0);
    atomic_init(&g->left, 0);
    pthread_mutex_init(&g->lock, NULL);
    g->slots = NULL;
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

static bool anybody_inside(struct gate *g)
{
    bool found = false;

    pthread_mutex_lock(&g->lock);
    for (GList *l = g->slots; l && !found; l = l->next)
        found = atomic_load(&((struct gate_slot *)l->data)->inside) != 0;
    pthread_mutex_unlock(&g->lock);
    return found;
}

void gate_shut(struct gate *g)
{
    g_assert(!atomic_load(&g->closed));
    atomic_store(&g->closed, 1);
}

bool gate_drain(struct gate *g, gint64 deadline)
{
    for (;;) {
        uint32_t left = atomic_load(&g->left);
        gint64 rest;

        if (!anybody_inside(g))
            return true;
        rest = deadline - g_get_monotonic_time();
        if (rest <= 0)
            return false;
        futex_wait(&g->left, left,
                   &(struct timespec){.tv_sec = rest / G_USEC_PER_SEC,
                                      .tv_nsec = rest % G_USEC_PER_SEC * 1000});
    }
}

void gate_open(struct gate *g)
{
    atomic_store(&g->closed, 0);
    futex_wake_all(&g->closed);
}

bool gate_close(struct gate *g, gint64 deadline)
{
    gate_shut(g);
    if (gate_drain(g, deadline))
        return true;
    gate_open(g);
    return false;
}
