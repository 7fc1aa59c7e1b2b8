/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's budget for all scratches: a folder, a limit, and the rule that the last 5 % of the
 * file system stay free. Any thread.
 */
#ifndef DISK_SCRATCH_POOL_H
#define DISK_SCRATCH_POOL_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct scratch_pool {
    char *dir;
    uint64_t limit;
    _Atomic uint64_t used;
    atomic_bool low_told;
    void (*low)(void *opaque, uint64_t used, uint64_t limit);
    void *opaque;
    int64_t lock_until; /* scratch-file.c; monotonic, microseconds; 0: no lock was waited for yet */
};

/* `dir` is not opened before the first scratch is made. A limit of 0 is none. `low` (may be NULL)
 * is called when use passes 90 % of the limit, and again only after use has fallen below 80 %. */
struct scratch_pool *scratch_pool_new(const char *dir, uint64_t limit,
                                      void (*low)(void *opaque, uint64_t used, uint64_t limit),
                                      void *opaque);
void scratch_pool_free(struct scratch_pool *p);
uint64_t scratch_pool_used(struct scratch_pool *p);  /* bytes kept */
uint64_t scratch_pool_limit(struct scratch_pool *p); /* 0: none */
const char *scratch_pool_dir(struct scratch_pool *p);

/* ---- for scratches ---- */

/* Charge n slots of 2^shift bytes, or as many of them as the limit allows. Returns how many. */
unsigned scratch_pool_charge(struct scratch_pool *p, unsigned n, unsigned shift);
/* Charge what an earlier process has kept already, whatever the limit. */
void scratch_pool_recharge(struct scratch_pool *p, uint64_t bytes);
void scratch_pool_release(struct scratch_pool *p, uint64_t bytes);

/* Is there room for `bytes` more outside the last 5 % of the file system that `fd` is on? Calls
 * `low` when little room is left. */
bool scratch_pool_room(struct scratch_pool *p, int fd, uint64_t bytes);

#endif
