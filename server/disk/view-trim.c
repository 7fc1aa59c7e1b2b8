/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-chain.h"

#include <errno.h>

/* As many blocks does a TRIM of a view take out before it lets others, view_delete on the control
 * thread among them, have their turn: milliseconds. */
#define TRIM_BLOCKS (64u << 10)

/* Take one block out of a view whose client has trimmed it. Under chain_lock. */
static void drop_block(struct view *v, uint64_t block, GArray *surplus)
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
            surplus_add(surplus, entry);
        /* Before it is gone here, so that whoever finds it gone looks at the older views again. */
        atomic_fetch_add(&v->disk->handovers, 1);
        atomic_store(&v->map[block], BLOCK_DROPPED);
        if (entry >= BLOCK_KEPT_SLOT)
            atomic_fetch_sub(&v->kept, 1);
        return;
    }
}

static void drop_blocks(struct view *v, uint64_t first, uint64_t end)
{
    struct disk *d = v->disk;
    GArray *surplus = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    lock_chain(d);
    bitmap_set(v->touched, first << d->unit_shift, (end - first) << d->unit_shift);
    for (uint64_t b = first; b < end; b++)
        drop_block(v, b, surplus);
    unlock_chain(d);
    if (surplus->len > 0)
        grace_wait(&d->readers);
    surplus_give(d, surplus);
}

int view_trim(struct view *v, uint64_t length, uint64_t offset)
{
    struct disk *d = v->disk;
    uint64_t first = (offset + d->unit - 1) >> d->unit_shift;
    /* Only whole blocks; the last one of the view may be short. */
    uint64_t end = offset + length >= v->size ? v->blocks : (offset + length) >> d->unit_shift;

    if (atomic_load(&v->state) != VIEW_LIVE)
        return -EIO;
    for (uint64_t next; first < end; first = next) {
        next = MIN(end, first + TRIM_BLOCKS);
        drop_blocks(v, first, next);
        disk_at(d, POINT_VIEW_TRIMMED, next << d->unit_shift);
    }
    return 0;
}
