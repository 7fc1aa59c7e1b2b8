/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bucket of tokens, kept as a time: `next` is when all that has been given out will have been
 * earned. Who comes gets the slot that begins there, and sleeps until it begins; so those that wait
 * are served in the order in which they came. A bucket that nobody uses fills up for BURST, not
 * longer. The slot of one that is cancelled meanwhile is lost, for others may have theirs behind it.
 */
#include "common/copy/rate.h"

#define BURST (G_USEC_PER_SEC / 20)

struct copy_rate {
    uint64_t bytes_per_second;
    GMutex lock; /* a leaf */
    GCond stopped;
    gint64 next; /* monotonic time, microseconds; under the lock */
};

struct copy_rate *copy_rate_new(uint64_t bytes_per_second)
{
    struct copy_rate *r;

    if (bytes_per_second == 0)
        return NULL;
    r = g_new0(struct copy_rate, 1);
    r->bytes_per_second = bytes_per_second;
    g_mutex_init(&r->lock);
    g_cond_init(&r->stopped);
    return r;
}

void copy_rate_free(struct copy_rate *r)
{
    if (!r)
        return;
    g_cond_clear(&r->stopped);
    g_mutex_clear(&r->lock);
    g_free(r);
}

uint64_t copy_rate_step(const struct copy_rate *r)
{
    return r->bytes_per_second / 16;
}

bool copy_rate_take(struct copy_rate *r, uint64_t bytes, const gint *stop)
{
    gint64 slot;
    bool go;

    g_mutex_lock(&r->lock);
    slot = MAX(r->next, g_get_monotonic_time() - BURST);
    r->next = slot + (gint64)((double)bytes * G_USEC_PER_SEC / (double)r->bytes_per_second);
    while (!(go = g_get_monotonic_time() >= slot) && !g_atomic_int_get(stop))
        g_cond_wait_until(&r->stopped, &r->lock, slot);
    g_mutex_unlock(&r->lock);
    return go;
}

void copy_rate_wake(struct copy_rate *r)
{
    g_mutex_lock(&r->lock);
    g_cond_broadcast(&r->stopped);
    g_mutex_unlock(&r->lock);
}
