/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The budget of all scratches, as they see it; scratch.h has its public side.
 */
#ifndef DISK_SCRATCH_POOL_H
#define DISK_SCRATCH_POOL_H

#include "server/disk/scratch.h"

#include <stdatomic.h>

struct scratch_pool {
    char *dir;
    uint64_t limit;
    _Atomic uint64_t used;
    atomic_bool low_told;
    void (*low)(void *opaque, uint64_t used, uint64_t limit);
    void *opaque;
};

/* Add to the budget as many of n slots of 2^shift bytes as the limit allows; returns how many. */
unsigned scratch_pool_charge(struct scratch_pool *p, unsigned n, unsigned shift);
void scratch_pool_release(struct scratch_pool *p, uint64_t bytes);

/* Is there room for `bytes` more outside the last 5 % of the file system that `fd` is on? Says so
 * when it gets little. */
bool scratch_pool_room(struct scratch_pool *p, int fd, uint64_t bytes);

#endif
