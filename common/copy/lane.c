/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/lane.h"

#include "common/copy/copy-private.h"
#include "common/copy/engine.h"
#include "common/copy/rate.h"

#define AHEAD (UINT64_C(64) << 30)

/* ---- taking work ---- */

/* Ask the source for more, with the lock, which is let go meanwhile. */
static int ask(struct lane *l, GError **err)
{
    struct copy *c = l->copy;
    int result;

    c->asking = true;
    pthread_mutex_unlock(&c->lock);
    result = planner_ask(c->planner, l->number, err);
    pthread_mutex_lock(&c->lock);
    c->asking = false;
    if (result == 0) {
        planner_publish(c->planner);
        engine_move(c);
    }
    pthread_cond_broadcast(&c->changed);
    return result;
}

/* With the lock. What the target keeps of a range until `below` comes (qcow2: a table of each 512 MiB, also
 * where no byte is copied) is not to grow without bound where the target is slow. */
static void wait_for_target(struct copy *c)
{
    uint64_t ahead = c->options.ahead ? c->options.ahead : AHEAD;

    while (c->target->ops->below && c->progress.position > c->below + ahead && !engine_stopped(c)) {
        c->held++;
        pthread_cond_wait(&c->changed, &c->lock);
        c->held--;
    }
}

/* Fill the batch. 1; 0: there is no more; -1: stopped, or *err. */
static int take(struct lane *l, struct batch *b, GError **err)
{
    struct copy *c = l->copy;
    int result = -1;

    batch_empty(b);
    pthread_mutex_lock(&c->lock);
    wait_for_target(c);
    while (!engine_stopped(c)) {
        if (planner_take(c->planner, b)) {
            b->in_use = true;
            b->number = c->next_number++;
            result = 1;
            break;
        }
        if (planner_knows_all(c->planner)) {
            result = 0;
            break;
        }
        if (c->asking)
            pthread_cond_wait(&c->changed, &c->lock);
        else if (ask(l, err) < 0)
            break;
    }
    pthread_mutex_unlock(&c->lock);
    return result;
}

/* Ask for more while there still is some, so that nobody has to wait for it. */
static int ask_early(struct lane *l, GError **err)
{
    struct copy *c = l->copy;
    int result = 0;

    pthread_mutex_lock(&c->lock);
    if (!c->asking && planner_is_low(c->planner, (uint64_t)2 * c->n_lanes * c->shape.room))
        result = ask(l, err);
    pthread_mutex_unlock(&c->lock);
    return result;
}

/* ---- a batch ---- */

static int begin(struct lane *l, struct batch *b, GError **err)
{
    struct copy *c = l->copy;

    if (c->options.rate && b->bytes > 0 && !copy_rate_take(c->options.rate, b->bytes, &c->stop))
        return -1;
    if (batch_read(b, c->source, l->number, err) < 0)
        return -1;
    return ask_early(l, err);
}

/* An ordered target gets one batch after the other. The first of them is in some lane's hands, and
 * is its older one: that lane does not wait for a turn. False: stopped. */
static bool wait_turn(struct copy *c, const struct batch *b)
{
    pthread_mutex_lock(&c->lock);
    while (c->turn != b->number && !engine_stopped(c))
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return !engine_stopped(c);
}

static int complete(struct lane *l, struct batch *b, GError **err)
{
    struct copy *c = l->copy;

    if (batch_wait(b, c->source, l->number, err) < 0)
        return -1;
    pthread_mutex_lock(&c->lock);
    c->progress.read += b->bytes;
    pthread_mutex_unlock(&c->lock);
    if (c->target->ordered && !wait_turn(c, b))
        return -1;
    if (batch_write(b, l->number, err) < 0)
        return -1;
    pthread_mutex_lock(&c->lock);
    engine_batch_done(c, b);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

/* ---- the thread ---- */

/* Trim some of what can be: as much as a batch may add. */
static int trim(struct lane *l, GError **err)
{
    struct copy *c = l->copy;

    for (int i = 0; i < BATCH_RANGES && c->trims && !engine_stopped(c); i++) {
        uint64_t offset, length;
        bool some;

        pthread_mutex_lock(&c->lock);
        some = trims_take(c->trims, &offset, &length);
        pthread_mutex_unlock(&c->lock);
        if (!some)
            break;
        if (c->source->ops->trim(c->source, l->number, offset, length, err) < 0)
            return -1;
    }
    return 0;
}

/* 0 at the end of the work; -1: stopped, or *err. */
static int work(struct lane *l, GError **err)
{
    struct batch *older = NULL, *newer = &l->batches[0];

    do {
        int got;

        if (trim(l, err) < 0)
            return -1;
        got = take(l, newer, err);
        if (got < 0 || (got > 0 && begin(l, newer, err) < 0))
            return -1;
        if (older && complete(l, older, err) < 0)
            return -1;
        older = got > 0 ? newer : NULL;
        newer = newer == &l->batches[0] ? &l->batches[1] : &l->batches[0];
    } while (older);
    return 0;
}

/* The source writes into a buffer until it has been waited for. */
static void wait_for_reads(struct lane *l)
{
    struct batch *first = &l->batches[0], *second = &l->batches[1];

    if (second->reading && first->reading && second->number < first->number) {
        first = &l->batches[1];
        second = &l->batches[0];
    }
    batch_wait(first, l->copy->source, l->number, NULL);
    batch_wait(second, l->copy->source, l->number, NULL);
}

void *lane_main(void *opaque)
{
    struct lane *l = opaque;
    struct copy *c = l->copy;
    GError *err = NULL;

    if (work(l, &err) < 0) {
        if (err)
            engine_fail(c, err);
        wait_for_reads(l);
    }
    pthread_mutex_lock(&c->lock);
    c->running--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}
