/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/patience.h"

#include "common/base/deadline.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* How often is_over is called at least. */
#define LOOK_USEC INT64_C(1000000)

struct patience {
    atomic_uint references;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool (*is_over)(void *opaque);
    void *opaque;
    bool abandoned; /* of the thread that waits alone */
};

struct patience *patience_new(bool (*is_over)(void *opaque), void *opaque)
{
    struct patience *p = calloc(1, sizeof *p);
    pthread_condattr_t attr;

    if (!p)
        return NULL;
    atomic_init(&p->references, 1);
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    p->is_over = is_over;
    p->opaque = opaque;
    return p;
}

struct patience *patience_ref(struct patience *p)
{
    atomic_fetch_add(&p->references, 1);
    return p;
}

void patience_unref(struct patience *p)
{
    if (atomic_fetch_sub(&p->references, 1) != 1)
        return;
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void patience_lock(struct patience *p)
{
    pthread_mutex_lock(&p->lock);
}

void patience_unlock(struct patience *p)
{
    pthread_mutex_unlock(&p->lock);
}

bool patience_is_over(const struct patience *p)
{
    return p->is_over && p->is_over(p->opaque);
}

bool patience_wait(struct patience *p, int64_t until)
{
    int64_t look = deadline_in(LOOK_USEC);

    if (patience_is_over(p))
        return false;
    if (until != 0 && until < look)
        look = until;
    struct timespec t = deadline_timespec(look);
    return pthread_cond_timedwait(&p->changed, &p->lock, &t) != ETIMEDOUT || look != until;
}

void patience_abandon(struct patience *p)
{
    p->abandoned = true;
}

bool patience_has_abandoned(const struct patience *p)
{
    return p->abandoned;
}

void patience_wake(struct patience *p)
{
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}
