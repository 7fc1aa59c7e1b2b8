/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-quota.h"

#include <glib.h>
#include <stdatomic.h>

struct view_quota {
    atomic_uint references;
    uint64_t limit;
    _Atomic uint64_t used;
    atomic_bool told; /* that it is low */
    void (*low)(void *opaque, uint64_t used, uint64_t limit);
    void *opaque;
};

struct view_quota *view_quota_new(uint64_t limit,
                                  void (*low)(void *opaque, uint64_t used, uint64_t limit),
                                  void *opaque)
{
    struct view_quota *q = g_new0(struct view_quota, 1);

    atomic_init(&q->references, 1);
    q->limit = limit;
    q->low = low;
    q->opaque = opaque;
    return q;
}

struct view_quota *view_quota_ref(struct view_quota *q)
{
    atomic_fetch_add(&q->references, 1);
    return q;
}

void view_quota_unref(struct view_quota *q)
{
    if (q && atomic_fetch_sub(&q->references, 1) == 1)
        g_free(q);
}

uint64_t view_quota_used(struct view_quota *q)
{
    return atomic_load(&q->used);
}

uint64_t view_quota_limit(const struct view_quota *q)
{
    return q->limit;
}

static void tell_if_low(struct view_quota *q, uint64_t used)
{
    if (q->limit && used >= q->limit - q->limit / 10 && !atomic_exchange(&q->told, true) && q->low)
        q->low(q->opaque, used, q->limit);
}

/* A refused take never counts, not even for a moment: else another one could be refused meanwhile that
 * is within the limit. */
bool view_quota_take(struct view_quota *q, uint64_t bytes)
{
    uint64_t used = atomic_load(&q->used);

    do {
        if (q->limit && (used > q->limit || bytes > q->limit - used))
            return false;
    } while (!atomic_compare_exchange_weak(&q->used, &used, used + bytes));
    tell_if_low(q, used + bytes);
    return true;
}

void view_quota_inherit(struct view_quota *q, uint64_t bytes)
{
    tell_if_low(q, atomic_fetch_add(&q->used, bytes) + bytes);
}

void view_quota_give(struct view_quota *q, uint64_t bytes)
{
    uint64_t used = atomic_fetch_sub(&q->used, bytes) - bytes;

    if (used < q->limit - q->limit / 5)
        atomic_store(&q->told, false);
}
