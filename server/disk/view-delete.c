/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * To delete view V:
 *  1. The gate is closed and V marked RETIRING: from here on nothing is kept into it, and no entry
 *     of it is COPYING. If no view is older, nobody else needs its blocks.
 *  2. While guests go on, each block it kept is offered to the next older view that needs it: the
 *     entry is copied, the slot changes its owner, no data moves. V's own entries stay as they are,
 *     so that readers and writers who still meet V on their way find the block there as well.
 *  3. The gate is closed again and V leaves the chain. If a write hangs just then, V stays where it
 *     is, broken and empty, and can be deleted again.
 *  4. When all readers who may have met V have left (the grace), its surplus slots are given back
 *     (limbo.c: not on time if a reader hangs).
 */
#include "common/util/error.h"
#include "server/disk/drain.h"
#include "server/disk/view-chain.h"

static void hand_over_all(struct view *v, GArray *surplus)
{
    uint64_t start, length;
    unsigned shift = v->disk->unit_shift;

    for (uint64_t at = 0; bitmap_next_dirty(v->touched, at, v->size, &start, &length);
         at = start + length) {
        for (uint64_t b = start >> shift; b <= (start + length - 1) >> shift; b++) {
            uint32_t entry = atomic_load(&v->map[b]);

            if (block_kept(entry) && !hand_over(v, b, entry))
                surplus_add(surplus, entry);
        }
    }
}

/* The chain cannot be changed now, but all blocks have been handed over or are surplus: leave the
 * view where it is, empty, unreadable, to be deleted another time. Under chain_lock. */
static void leave_empty(struct view *v)
{
    uint64_t start, length;
    unsigned shift = v->disk->unit_shift;

    for (uint64_t at = 0; bitmap_next_dirty(v->touched, at, v->size, &start, &length);
         at = start + length)
        for (uint64_t b = start >> shift; b <= (start + length - 1) >> shift; b++)
            if (block_kept(atomic_load(&v->map[b])))
                atomic_store(&v->map[b], BLOCK_DROPPED);
    atomic_store(&v->kept, 0);
    view_break(v, "its deletion was begun, and writes under way did not end");
}

static bool close_gate(struct disk *d)
{
    return gate_close(&d->gate, g_get_monotonic_time() + d->drain_usec);
}

int view_delete(struct view *v, GError **err)
{
    struct disk *d = v->disk;
    GArray *surplus;
    bool closed;

    if (atomic_load(&v->uses) > 0)
        return fail(err, "Node %s is in use", v->node.name);
    if (!close_gate(d))
        return fail_drain(d, err);
    atomic_store(&v->state, VIEW_RETIRING);
    gate_open(&d->gate);

    surplus = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    lock_chain(d);
    hand_over_all(v, surplus);
    /* Before v leaves the chain: whoever passes it by looks again (view_resolve). */
    atomic_fetch_add(&d->handovers, 1);
    disk_at(d, POINT_HANDED_OVER, 0);
    closed = close_gate(d);
    if (closed) {
        unlink_view(v);
        gate_open(&d->gate);
    } else {
        leave_empty(v);
    }
    unlock_chain(d);

    limbo_put(d, closed ? v : NULL, surplus);
    return closed ? 0 : fail_drain(d, err);
}
