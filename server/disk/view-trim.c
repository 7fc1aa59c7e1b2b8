/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk-scratch.h"
#include "server/disk/view-chain.h"

#include <errno.h>

/* So many blocks are taken out of a view, in some milliseconds, before others have their turn. */
#define PART_BLOCKS (64u << 10)

/* Take one block out of a view that needs it no more. False: *stop is set, and it is still there.
 * Under chain_lock, inside the grace. */
static bool drop_block(struct view *v, uint64_t block, struct freed_slots *freed,
                       const atomic_bool *stop)
{
    uint32_t entry = BLOCK_NEEDED;
    enum heir heir;

    /* The common case: nobody has touched it. */
    if (atomic_compare_exchange_strong(&v->map[block], &entry, BLOCK_DROPPED))
        return true;
    for (;;) {
        if (!view_wait_copied_or(v, block, stop))
            return false;
        entry = atomic_load(&v->map[block]);
        if (entry == BLOCK_DROPPED)
            return true;
        if (entry == BLOCK_NEEDED) {
            if (atomic_compare_exchange_strong(&v->map[block], &entry, BLOCK_DROPPED))
                return true;
            continue;
        }
        if (block_kept(entry))
            break;
    }
    heir = hand_over(v, block, entry, stop);
    if (heir == HEIR_UNKNOWN)
        return false;
    if (heir == HEIR_NONE)
        freed_slots_add(freed, entry);
    /* Counted before the block is gone here: whoever finds it gone looks at older views again. */
    atomic_fetch_add(&v->disk->handovers, 1);
    atomic_store(&v->map[block], BLOCK_DROPPED);
    if (entry >= BLOCK_KEPT_SLOT)
        view_loses(v, 1);
    return true;
}

/* Take out a part of a view. */
static void drop_part(struct view *v, uint64_t first, uint64_t end, const atomic_bool *stop)
{
    struct disk *d = v->disk;
    struct freed_slots *freed;
    unsigned phase;

    if (!lock_chain(d, stop))
        return;
    freed = freed_slots_new(d);
    phase = grace_enter(&d->readers); /* older views may leave the chain meanwhile */
    view_touch(v, first, end - first);
    for (uint64_t b = first; b < end && drop_block(v, b, freed, stop); b++)
        ;
    unlock_chain(d);
    grace_leave(&d->readers, phase);
    freed_slots_give(freed);
}

static bool is_set(const atomic_bool *stop)
{
    return stop && atomic_load(stop);
}

static void drop_blocks(struct view *v, uint64_t first, uint64_t end, const atomic_bool *stop)
{
    for (uint64_t next; first < end && !is_set(stop); first = next) {
        next = MIN(end, first + PART_BLOCKS);
        drop_part(v, first, next, stop);
        disk_at(v->disk, POINT_VIEW_TRIMMED, next << v->disk->unit_shift);
    }
}

int view_trim(struct view *v, uint64_t length, uint64_t offset)
{
    const struct disk *d = v->disk;
    uint64_t first = (offset + d->unit - 1) >> d->unit_shift;
    /* Only whole blocks; the last one of the view may be short. */
    uint64_t end = offset + length >= v->size ? v->blocks : (offset + length) >> d->unit_shift;

    if (atomic_load(&v->state) != VIEW_LIVE)
        return -EIO;
    if (first < end)
        drop_blocks(v, first, end, NULL);
    return 0;
}

void view_hand_over(struct view *v, const atomic_bool *stop)
{
    unsigned shift = v->disk->unit_shift;
    uint64_t start, length;

    for (uint64_t at = 0;
         !is_set(stop) && bitmap_next_dirty(v->touched, at, v->size, &start, &length);
         at = start + length)
        drop_blocks(v, start >> shift, ((start + length - 1) >> shift) + 1, stop);
}

static void forget_part(struct view *v, uint64_t first, uint64_t end)
{
    for (uint64_t b = first; b < end; b++) {
        uint32_t entry =
            v->disk->keeps ? atomic_load(&v->map[b]) : atomic_exchange(&v->map[b], BLOCK_DROPPED);

        if (entry >= BLOCK_KEPT_SLOT) {
            scratch_forget(v->disk->scratch, entry - BLOCK_KEPT_SLOT, 1);
            view_loses(v, 1);
        }
    }
}

void view_forget(struct view *v)
{
    unsigned shift = v->disk->unit_shift;
    uint64_t start, length;

    for (uint64_t at = 0; bitmap_next_dirty(v->touched, at, v->size, &start, &length);
         at = start + length)
        forget_part(v, start >> shift, ((start + length - 1) >> shift) + 1);
}
