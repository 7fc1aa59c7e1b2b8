/* SPDX-License-Identifier: BSD-3-Clause */
/* What the threads of a copy share: its lanes, and the conductor (copy.c says who does what). */
#ifndef COMMON_COPY_COPY_PRIVATE_H
#define COMMON_COPY_COPY_PRIVATE_H

#include "common/copy/batch.h"
#include "common/copy/copy.h"
#include "common/copy/planner.h"
#include "common/copy/trims.h"

#include <pthread.h>

struct lane {
    struct copy *copy;
    unsigned number;
    pthread_t thread;
    struct batch batches[2]; /* one is read while the other is written */
};

struct copy {
    /* Set before there are threads. */
    struct copy_source *source;
    struct copy_target *target;
    struct copy_options options;
    struct batch_shape shape;
    struct lane *lanes;
    unsigned n_lanes;
    pthread_t conductor;
    int fd; /* eventfd: the copy has ended */

    gint stop; /* somebody has failed, or cancelled: no new work. Atomic; set under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* whatever is below has changed so that somebody may go on */
    /* Under the lock. */
    struct planner *planner; /* but for planner_ask: that is for who has set `asking` */
    bool asking;
    uint64_t next_number; /* of the next batch */
    uint64_t turn;        /* the number of the batch which an ordered target gets next */
    unsigned running;     /* lanes */
    uint64_t below;       /* the target has dealt with all below it (its `below`) */
    unsigned held;        /* lanes that wait until it has dealt with more */
    struct copy_progress progress;
    struct trims *trims; /* NULL: nothing is trimmed */
    GError *error;       /* the first */
    bool ended;
};

static inline bool engine_stopped(struct copy *c)
{
    return g_atomic_int_get(&c->stop);
}

#endif
