/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Order: the position is read, then the target is synced, so that all below the position is durable
 * after it; then it is marked; then what was copied below it may be trimmed, for nobody will go on
 * before the mark. A sync may be slow: no lane waits for it. The end is no exception: what is trimmed
 * then is gone, too, so the end of the disk is marked before it.
 */
#include "common/copy/conductor.h"

#include "common/base/deadline.h"
#include "common/copy/copy-private.h"
#include "common/copy/engine.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A sync comes when so much was copied, and some time has passed; after LATE in any case. */
#define SYNC_BYTES (UINT64_C(256) << 20)
#define SYNC_MS    5000
#define LATE_MS    60000
/* A copy goes on at multiples of this. */
#define MARK_ALIGN (UINT64_C(2) << 20)
/* The target is told of so much at once, bytes of the disk: a cancelled copy waits for it. */
#define BELOW_STEP (UINT64_C(32) << 30)

struct conductor {
    struct copy *c;
    uint64_t durable; /* the last mark */
    uint64_t copied;  /* bytes, when it was made */
    gint64 time;      /* of the last sync, monotonic, microseconds */
};

static uint64_t bytes_copied(const struct copy *c)
{
    return c->progress.written + c->progress.zero;
}

static gint64 milliseconds(unsigned given, unsigned usual)
{
    return (gint64)(given ? given : usual) * 1000;
}

/* With the lock. Is it time for a sync? If not, *when it is to be looked at again; 0: after the next
 * change. */
static bool sync_is_due(const struct conductor *k, gint64 *when)
{
    const struct copy *c = k->c;
    gint64 now = g_get_monotonic_time();
    gint64 early = k->time + milliseconds(c->options.sync_ms, SYNC_MS);
    gint64 late = k->time + milliseconds(MAX(c->options.sync_ms, LATE_MS), LATE_MS);
    uint64_t enough = c->options.sync_bytes ? c->options.sync_bytes : SYNC_BYTES;

    *when = 0;
    if (!c->target->ops->sync || (!c->options.mark && !c->trims) ||
        (c->progress.position & ~(MARK_ALIGN - 1)) <= k->durable)
        return false;
    if (now >= late || (now >= early && bytes_copied(c) - k->copied >= enough) ||
        (c->trims && trims_are_many(c->trims)))
        return true;
    *when = now < early ? early : late;
    return false;
}

/* Without the lock. */
static int sync_now(struct conductor *k, GError **err)
{
    struct copy *c = k->c;
    uint64_t position;

    pthread_mutex_lock(&c->lock);
    position = c->progress.position & ~(MARK_ALIGN - 1);
    k->copied = bytes_copied(c);
    pthread_mutex_unlock(&c->lock);

    if (c->target->ops->sync(c->target, err) < 0)
        return -1;
    k->time = g_get_monotonic_time();
    k->durable = position;
    if (c->options.mark && c->options.mark(c->options.opaque, position, err) < 0)
        return -1;
    if (c->trims) {
        pthread_mutex_lock(&c->lock);
        trims_release(c->trims, position);
        pthread_mutex_unlock(&c->lock);
    }
    return 0;
}

/* Without the lock; only this thread changes c->below. */
static int tell_below(struct conductor *k, uint64_t offset, GError **err)
{
    struct copy *c = k->c;

    while (c->target->ops->below && c->below < offset && !engine_stopped(c)) {
        uint64_t upto = MIN(offset, c->below + BELOW_STEP);

        if (c->target->ops->below(c->target, upto, err) < 0)
            return -1;
        pthread_mutex_lock(&c->lock);
        c->below = upto;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
    }
    return 0;
}

/* Until the lanes are done, or all stop. 0, or -1 and *err. */
static int follow(struct conductor *k, GError **err)
{
    struct copy *c = k->c;
    int result = 0;

    pthread_mutex_lock(&c->lock);
    while (result == 0 && c->running > 0 && !engine_stopped(c)) {
        uint64_t position = c->progress.position;
        gint64 when;
        bool due = sync_is_due(k, &when);

        if (due || (c->target->ops->below && position > c->below)) {
            pthread_mutex_unlock(&c->lock);
            result = tell_below(k, position, err);
            if (result == 0 && due)
                result = sync_now(k, err);
            pthread_mutex_lock(&c->lock);
        } else if (when) {
            struct timespec until = deadline_timespec(when);

            pthread_cond_clockwait(&c->changed, &c->lock, CLOCK_MONOTONIC, &until);
        } else {
            pthread_cond_wait(&c->changed, &c->lock);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return result;
}

/* The target is durable: mark its end, because what is trimmed behind the last mark could not be copied
 * again. */
static int mark_end(struct conductor *k, GError **err)
{
    struct copy *c = k->c;
    uint64_t size = c->source->size;

    if (!c->options.mark || k->durable >= size)
        return 0;
    k->durable = size;
    return c->options.mark(c->options.opaque, size, err);
}

/* Trim what is left. The target is whole by now, and no trim that fails makes it less so. */
static void trim_rest(struct copy *c)
{
    uint64_t offset, length;

    trims_release(c->trims, c->source->size);
    while (!engine_stopped(c) && trims_take(c->trims, &offset, &length)) {
        if (c->source->ops->trim(c->source, 0, offset, length, NULL) < 0)
            break;
    }
}

/* The lanes are gone, and have done all. */
static int complete(struct conductor *k, GError **err)
{
    struct copy *c = k->c;

    pthread_mutex_lock(&c->lock);
    c->progress.position = c->source->size;
    pthread_mutex_unlock(&c->lock);
    if (tell_below(k, c->source->size, err) < 0)
        return -1;
    if (engine_stopped(c))
        return 0;
    if (c->target->ops->finish(c->target, err) < 0)
        return -1;
    if (!c->trims)
        return 0;
    if (mark_end(k, err) < 0)
        return -1;
    trim_rest(c);
    return 0;
}

void *conductor_main(void *opaque)
{
    struct copy *c = opaque;
    struct conductor k = {.c = c, .durable = c->options.start, .time = g_get_monotonic_time()};
    GError *err = NULL;
    uint64_t one = 1;
    ssize_t r;

    if (follow(&k, &err) < 0)
        engine_fail(c, g_steal_pointer(&err));
    for (unsigned i = 0; i < c->n_lanes; i++)
        pthread_join(c->lanes[i].thread, NULL);
    if (!engine_stopped(c) && complete(&k, &err) < 0)
        engine_fail(c, err);

    pthread_mutex_lock(&c->lock);
    c->ended = true;
    pthread_mutex_unlock(&c->lock);
    do
        r = write(c->fd, &one, sizeof one);
    while (r < 0 && errno == EINTR);
    return NULL;
}
