/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A reader counts itself under the phase it sees, and looks again: if the phase changed in between,
 * a call may have missed it, so it starts over.
 *
 * Calls go in batches. A batch turns the phase, so that newcomers are counted apart, and is called
 * when the count of the phase before is 0. The next batch turns the phase only after that: at that
 * time nobody is counted under the phase that becomes the present one.
 *
 * Why the last reader does not miss a batch: the batch sets `waiting` and turns the phase, and then
 * loads the count; the reader takes itself off the count, and then loads `waiting` and the phase.
 * At least one sees the other.
 */
#include "server/disk/grace.h"

struct call {
    GList link;
    void (*fn)(void *opaque);
    void *opaque;
};

void grace_init(struct grace *g)
{
    *g = (struct grace){.next = G_QUEUE_INIT, .now = G_QUEUE_INIT};
    pthread_mutex_init(&g->lock, NULL);
}

void grace_destroy(struct grace *g)
{
    g_assert(atomic_load(&g->readers[0]) == 0 && atomic_load(&g->readers[1]) == 0);
    g_assert(g_queue_is_empty(&g->next) && g_queue_is_empty(&g->now));
    g_assert(atomic_load(&g->calling) == 0);
    pthread_mutex_destroy(&g->lock);
}

unsigned grace_enter(struct grace *g)
{
    for (;;) {
        unsigned phase = atomic_load(&g->phase) & 1;

        atomic_fetch_add(&g->readers[phase], 1);
        if ((atomic_load(&g->phase) & 1) == phase)
            return phase;
        grace_leave(g, phase);
    }
}

static void move_all(GQueue *to, GQueue *from)
{
    while (!g_queue_is_empty(from))
        g_queue_push_tail_link(to, g_queue_pop_head_link(from));
}

/* Go on as far as readers allow. Calls that can be made are moved to `ready`. Locked. */
static void advance(struct grace *g, GQueue *ready)
{
    for (;;) {
        if (g_queue_is_empty(&g->now)) {
            if (g_queue_is_empty(&g->next))
                break;
            move_all(&g->now, &g->next);
            atomic_store(&g->waiting, 1);
            atomic_fetch_add(&g->phase, 1);
        }
        if (atomic_load(&g->readers[(atomic_load(&g->phase) + 1) & 1]) != 0)
            return;
        move_all(ready, &g->now);
    }
    atomic_store(&g->waiting, 0);
}

static void make_calls(struct grace *g, GQueue *ready)
{
    while (!g_queue_is_empty(ready)) {
        struct call *c = g_queue_pop_head_link(ready)->data;

        c->fn(c->opaque);
        g_free(c);
    }
    atomic_fetch_sub(&g->calling, 1);
    futex_wake_all(&g->calling);
}

/* Called locked; unlocks. The thread makes the calls that it has found ready, and none that others
 * find meanwhile, because it may be a thread that must not be held up. */
static void go_on(struct grace *g)
{
    GQueue ready = G_QUEUE_INIT;

    advance(g, &ready);
    if (!g_queue_is_empty(&ready))
        atomic_fetch_add(&g->calling, 1);
    pthread_mutex_unlock(&g->lock);
    if (!g_queue_is_empty(&ready))
        make_calls(g, &ready);
}

void grace_left(struct grace *g)
{
    pthread_mutex_lock(&g->lock);
    go_on(g);
}

void grace_call(struct grace *g, void (*fn)(void *opaque), void *opaque)
{
    struct call *c = g_new0(struct call, 1);

    *c = (struct call){.link = {.data = c}, .fn = fn, .opaque = opaque};
    pthread_mutex_lock(&g->lock);
    g_queue_push_tail_link(&g->next, &c->link);
    go_on(g);
}

static void wake(void *opaque)
{
    futex_word *called = opaque;

    atomic_store(called, 1);
    futex_wake_all(called);
}

void grace_wait(struct grace *g)
{
    futex_word called = 0;
    uint32_t calling;

    grace_call(g, wake, &called);
    while (!atomic_load(&called))
        futex_wait(&called, 0, NULL);
    while ((calling = atomic_load(&g->calling)) != 0)
        futex_wait(&g->calling, calling, NULL);
}
