/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A reader counts itself under the phase it sees, and looks again: if the phase changed in between,
 * a waiter may have missed it, so it starts over.
 */
#include "server/disk/grace.h"

void grace_init(struct grace *g)
{
    atomic_init(&g->phase, 0);
    atomic_init(&g->readers[0], 0);
    atomic_init(&g->readers[1], 0);
    atomic_init(&g->waiting, 0);
    pthread_mutex_init(&g->lock, NULL);
}

void grace_destroy(struct grace *g)
{
    g_assert(atomic_load(&g->readers[0]) == 0 && atomic_load(&g->readers[1]) == 0);
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

void grace_leave(struct grace *g, unsigned phase)
{
    if (atomic_fetch_sub(&g->readers[phase], 1) == 1 && atomic_load(&g->waiting))
        futex_wake_all(&g->readers[phase]);
}

/* Wait for the readers of one phase. A deadline of 0: without limit. */
static bool wait_phase(struct grace *g, unsigned phase, gint64 deadline)
{
    uint32_t inside;

    while ((inside = atomic_load(&g->readers[phase])) != 0) {
        gint64 rest = deadline - g_get_monotonic_time();

        if (deadline == 0)
            futex_wait(&g->readers[phase], inside, NULL);
        else if (rest <= 0)
            return false;
        else
            futex_wait(&g->readers[phase], inside,
                       &(struct timespec){.tv_sec = rest / G_USEC_PER_SEC,
                                          .tv_nsec = rest % G_USEC_PER_SEC * 1000});
    }
    return true;
}

/* Under g->lock. Of a wait that gave up there may be readers left in the phase before: them first,
 * for the phase is about to be theirs again. */
static bool wait_locked(struct grace *g, gint64 deadline)
{
    bool done;

    atomic_store(&g->waiting, 1);
    done = wait_phase(g, (atomic_load(&g->phase) + 1) & 1, deadline) &&
           wait_phase(g, atomic_fetch_add(&g->phase, 1) & 1, deadline);
    atomic_store(&g->waiting, 0);
    return done;
}

void grace_wait(struct grace *g)
{
    pthread_mutex_lock(&g->lock);
    wait_locked(g, 0);
    pthread_mutex_unlock(&g->lock);
}

bool grace_wait_until(struct grace *g, gint64 deadline)
{
    gint64 until = g_get_real_time() + deadline - g_get_monotonic_time();
    struct timespec t = {.tv_sec = until / G_USEC_PER_SEC,
                         .tv_nsec = until % G_USEC_PER_SEC * 1000};
    bool done;

    if (pthread_mutex_timedlock(&g->lock, &t) != 0)
        return false;
    done = wait_locked(g, deadline);
    pthread_mutex_unlock(&g->lock);
    return done;
}
