/* SPDX-License-Identifier: BSD-3-Clause */
/* A scratch file in a folder of its own, with no disk. */
#ifndef TESTS_RIGS_SCRATCH_RIG_H
#define TESTS_RIGS_SCRATCH_RIG_H

#include "server/disk/scratch.h"

struct scratch_rig {
    char *dir;
    struct scratch_pool *pool;
    struct scratch *scratch;
    unsigned low; /* how often the pool has told that it is nearly full */
};

/* Slots of `unit` bytes; the most bytes that may be taken, 0: no limit. */
void scratch_rig_begin(struct scratch_rig *r, uint32_t unit, uint64_t limit);
/* All slots have come back. */
void scratch_rig_end(struct scratch_rig *r);

/* scratch_take, for those who do not ask why not. */
int scratch_rig_take(struct scratch_rig *r, unsigned n, uint32_t *first);

#endif
