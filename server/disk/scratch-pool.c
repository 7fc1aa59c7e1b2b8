/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/scratch-pool.h"

#include <sys/statvfs.h>

struct scratch_pool *scratch_pool_new(const char *dir, uint64_t limit,
                                      void (*low)(void *opaque, uint64_t used, uint64_t limit),
                                      void *opaque)
{
    struct scratch_pool *p = g_new0(struct scratch_pool, 1);

    p->dir = g_strdup(dir);
    p->limit = limit;
    p->low = low;
    p->opaque = opaque;
    return p;
}

void scratch_pool_free(struct scratch_pool *p)
{
    g_assert(atomic_load(&p->used) == 0);
    g_free(p->dir);
    g_free(p);
}

uint64_t scratch_pool_used(struct scratch_pool *p)
{
    return atomic_load(&p->used);
}

uint64_t scratch_pool_limit(struct scratch_pool *p)
{
    return p->limit;
}

const char *scratch_pool_dir(struct scratch_pool *p)
{
    return p->dir;
}

static void tell_if_low(struct scratch_pool *p, uint64_t used, uint64_t limit)
{
    if (p->low && used > limit / 10 * 9 && !atomic_exchange(&p->low_told, true))
        p->low(p->opaque, used, limit);
}

unsigned scratch_pool_charge(struct scratch_pool *p, unsigned n, unsigned shift)
{
    uint64_t used = atomic_load(&p->used), got;

    do {
        got = n;
        if (p->limit && used + (got << shift) > p->limit)
            got = used >= p->limit ? 0 : (p->limit - used) >> shift;
    } while (!atomic_compare_exchange_weak(&p->used, &used, used + (got << shift)));

    if (p->limit)
        tell_if_low(p, used + (got << shift), p->limit);
    return (unsigned)got;
}

void scratch_pool_recharge(struct scratch_pool *p, uint64_t bytes)
{
    uint64_t now = atomic_fetch_add(&p->used, bytes) + bytes;

    if (p->limit)
        tell_if_low(p, now, p->limit);
}

void scratch_pool_release(struct scratch_pool *p, uint64_t bytes)
{
    uint64_t now = atomic_fetch_sub(&p->used, bytes) - bytes;

    if (now == 0 || now < p->limit / 10 * 8)
        atomic_store(&p->low_told, false);
}

bool scratch_pool_room(struct scratch_pool *p, int fd, uint64_t bytes)
{
    struct statvfs fs;
    uint64_t free_bytes, kept_free, used = atomic_load(&p->used);

    if (fstatvfs(fd, &fs) < 0)
        return true; /* nobody can tell; if there is no room, the write fails */
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    kept_free = (uint64_t)fs.f_blocks * fs.f_frsize / 20;
    if (free_bytes < bytes + kept_free)
        return false;
    tell_if_low(p, used, used + free_bytes - kept_free);
    return true;
}
