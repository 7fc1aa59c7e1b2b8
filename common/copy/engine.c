/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/engine.h"

#include "common/copy/copy-private.h"
#include "common/copy/rate.h"

void engine_fail(struct copy *c, GError *error)
{
    bool first;

    pthread_mutex_lock(&c->lock);
    first = !c->error && !c->ended;
    if (first) {
        c->error = error;
        g_atomic_int_set(&c->stop, 1);
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    if (!first) {
        g_error_free(error);
        return;
    }
    if (c->options.rate)
        copy_rate_wake(c->options.rate);
    if (c->source->ops->cancel)
        c->source->ops->cancel(c->source);
    if (c->target->ops->cancel)
        c->target->ops->cancel(c->target);
}

/* Up to where all is done: what is still to be taken, and what is under way, is above it. */
static uint64_t low_water(const struct copy *c)
{
    uint64_t low = planner_frontier(c->planner);

    for (unsigned i = 0; i < c->n_lanes; i++) {
        for (unsigned k = 0; k < G_N_ELEMENTS(c->lanes[i].batches); k++) {
            const struct batch *b = &c->lanes[i].batches[k];

            if (b->in_use)
                low = MIN(low, b->ranges[0].offset);
        }
    }
    return low;
}

void engine_move(struct copy *c)
{
    c->progress.position = low_water(c);
}

void engine_batch_done(struct copy *c, struct batch *b)
{
    c->progress.written += b->wrote;
    c->progress.zero += b->zeroed;
    if (c->trims)
        trims_add(c->trims, b->ranges, b->n_ranges);
    b->in_use = false;
    c->turn++;
    engine_move(c);
    pthread_cond_broadcast(&c->changed);
}
