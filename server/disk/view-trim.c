/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk-scratch.h"
#include "server/disk/view-chain.h"

#include <errno.h>

/* So many blocks are taken out of a view before others have their turn, milliseconds of work. */
#define PART_BLOCKS (64u << 10)

/* Take one block out of a view that needs it no more. Under chain_lock, inside the grace. */
static void drop_block(struct view *v, uint64_t block, struct freed_slots *freed)
{
    uint32_t entry = BLOCK_NEEDED;

    /* What nobody has touched, which is most of it. */
    if (atomic_compare_exchange_strong(&v->map[block], &entry, BLOCK_DROPPED))
        return;
    for (;;) {
        view_wait_copied(v, block);
        entry = atomic_load(&v->map[block]);
        if (entry == BLOCK_DROPPED)
            return;
        if (entry == BLOCK_NEEDED) {
            if (atomic_compare_exchange_strong(&v->map[block], &entry, BLOCK_DROPPED))
                return;
            continue;
        }
        if (!block_kept(entry))
            continue;
        if (!hand_over(v, block, entry))
            freed_slots_add(freed, entry);
        /* Before it is gone here, so that whoever finds it gone looks at the older views again. */
        atomic_fetch_add(&v->disk->handovers, 1);
        atomic_store(&v->map[block], BLOCK_DROPPED);
        if (entry >= BLOCK_KEPT_SLOT)
            atomic_fetch_sub(&v->kept, 1);
        return;
    }
}

/* Take out a part of a view. */
static void drop_part(struct view *v, uint64_t first, uint64_t end)
{
    struct disk *d = v->disk;
    struct freed_slots *freed = freed_slots_new(d);
    unsigned phase;

    lock_chain(d);
    phase = grace_enter(&d->readers); /* older views may leave the chain meanwhile */
    bitmap_set(v->touched, first << d->unit_shift, (end - first) << d->unit_shift);
    for (uint64_t b = first; b < end; b++)
        drop_block(v, b, freed);
    grace_leave(&d->readers, phase);
    unlock_chain(d);
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
        drop_part(v, first, next);
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
