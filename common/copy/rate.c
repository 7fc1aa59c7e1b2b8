/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bucket of tokens, kept as a time: `next` is when all that has been given out will have been
 * earned. Who comes gets the slot that begins there, and sleeps until it begins; so those that wait
 * are served in the order in which they came. A bucket that nobody uses fills up for BURST, not
 * longer. The slot of one that is cancelled meanwhile is lost, for others may have theirs behind it.
 */
#include "common/copy/rate.h"

#include "common/base/deadline.h"
#include "common/copy/copy.h"

#include <pthread.h>

#define BURST (G_USEC_PER_SEC / 20)

struct copy_rate {
    uint64_t bytes_per_second;
    pthread_mutex_t lock; /* a leaf */
    pthread_cond_t stopped;
    gint64 next; /* monotonic time, microseconds; under the lock */
};

struct copy_rate *copy_rate_new(uint64_t bytes_per_second)
{
    struct copy_rate *r;

    if (bytes_per_second == 0)
        return NULL;
    r = g_new0(struct copy_rate, 1);
    r->bytes_per_second = bytes_per_second;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->stopped, NULL);
    return r;
}

void copy_rate_free(struct copy_rate *r)
{
    if (!r)
        return;
    pthread_cond_destroy(&r->stopped);
    pthread_mutex_destroy(&r->lock);
    g_free(r);
}

uint64_t copy_rate_step(const struct copy_rate *r)
{
    return r->bytes_per_second / 16;
}

bool copy_rate_take(struct copy_rate *r, uint64_t bytes, const gint *stop)
{
    struct timespec until;
    gint64 slot;
    bool go;

    pthread_mutex_lock(&r->lock);
    slot = MAX(r->next, g_get_monotonic_time() - BURST);
    r->next = slot + (gint64)((double)bytes * G_USEC_PER_SEC / (double)r->bytes_per_second);
    until = deadline_timespec(slot);
    while (!(go = g_get_monotonic_time() >= slot) && !g_atomic_int_get(stop))
        pthread_cond_clockwait(&r->stopped, &r->lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&r->lock);
    return go;
}

void copy_rate_wake(struct copy_rate *r)
{
    pthread_mutex_lock(&r->lock);
    pthread_cond_broadcast(&r->stopped);
    pthread_mutex_unlock(&r->lock);
}
