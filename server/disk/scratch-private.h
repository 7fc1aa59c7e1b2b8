/* SPDX-License-Identifier: BSD-3-Clause */
/* What a scratch is inside: scratch.c begins with an explanation. */
#ifndef DISK_SCRATCH_PRIVATE_H
#define DISK_SCRATCH_PRIVATE_H

#include "common/util/log-limit.h"
#include "server/disk/scratch.h"
#include "server/disk/scratch-buffer.h"

#include <pthread.h>

struct scratch {
    struct scratch_pool *pool;
    int fd;
    unsigned shift; /* log2 of a slot's bytes */
    pthread_mutex_t lock;
    uint64_t next, reserved; /* slots */
    uint64_t taken;
    struct scratch_buffers buffers;
    _Atomic uint64_t memory_from; /* slots before this one are in the file */
    unsigned writing;             /* buffers on their way into the file */
    int failed;                   /* errno of the first one that did not get there */
    bool cannot_reserve, cannot_punch;
    GArray *free_runs;
    GArray *deferred_runs;
    struct log_limit write_errors;
    struct lasting *file; /* where it survives the process; NULL: it does not */
};

/* One over a file, with no slots; takes over the descriptor. `lasting` may be NULL. */
struct scratch *scratch_over(struct scratch_pool *p, uint32_t unit, int fd,
                             struct lasting *lasting);

#endif
