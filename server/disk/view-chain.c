/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-chain.h"

void view_link(struct view *v, int64_t instant_usec)
{
    struct disk *d = v->disk;
    struct view *newest = atomic_load(&d->newest);

    v->instant_usec = instant_usec;
    atomic_store(&v->older, newest);
    if (newest)
        atomic_store(&newest->newer, v);
    atomic_store(&d->newest, v);
}

void unlink_view(struct view *v)
{
    struct disk *d = v->disk;
    struct view *older = atomic_load(&v->older), *newer = atomic_load(&v->newer);

    if (older)
        atomic_store(&older->newer, newer);
    if (newer)
        atomic_store(&newer->older, older);
    else
        atomic_store(&d->newest, older);
    pthread_mutex_lock(&d->lock);
    g_ptr_array_remove(d->views, v);
    pthread_mutex_unlock(&d->lock);
}

uint32_t view_resolve(const struct view *v, uint64_t block)
{
    struct disk *d = v->disk;
    uint64_t handovers;
    uint32_t entry;

    /* A TRIM or the end of a newer view may move a block to an older one while we walk between the
     * two: we have looked at the older before it came, and do not find it in the newer any more. It
     * counts in d->handovers before it takes the block away, and then we walk again. */
    do {
        handovers = atomic_load(&d->handovers);
        entry = atomic_load(&v->map[block]);
        if (block_kept(entry) || entry == BLOCK_DROPPED)
            return entry;
        for (struct view *w = atomic_load(&v->newer); w; w = atomic_load(&w->newer)) {
            entry = atomic_load(&w->map[block]);
            if (block_kept(entry))
                return entry;
        }
    } while (handovers != atomic_load(&d->handovers));
    return BLOCK_NEEDED;
}

void view_wait_copied(struct view *v, uint64_t block)
{
    for (;;) {
        uint32_t entry = atomic_load(&v->map[block]);

        if (entry != BLOCK_COPYING && entry != BLOCK_CONTENDED)
            return;
        if (entry == BLOCK_CONTENDED ||
            atomic_compare_exchange_strong(&v->map[block], &entry, BLOCK_CONTENDED))
            futex_wait(&v->map[block], BLOCK_CONTENDED, NULL);
    }
}

/* ---- taking blocks out of a view ---- */

void lock_chain(struct disk *d)
{
    pthread_mutex_lock(&d->chain_turn);
    pthread_mutex_lock(&d->chain_lock);
    pthread_mutex_unlock(&d->chain_turn);
}

void unlock_chain(struct disk *d)
{
    pthread_mutex_unlock(&d->chain_lock);
}

void surplus_add(GArray *surplus, uint32_t entry)
{
    uint32_t slot = entry - BLOCK_KEPT_SLOT;
    uint32_t run[2] = {slot, 1};

    if (entry < BLOCK_KEPT_SLOT)
        return;
    if (surplus->len > 0) {
        uint32_t *last = &g_array_index(surplus, uint32_t, surplus->len - 2);

        if (last[0] + last[1] == slot) {
            last[1]++;
            return;
        }
    }
    g_array_append_vals(surplus, run, 2);
}

void surplus_give(struct disk *d, GArray *surplus)
{
    for (unsigned i = 0; i < surplus->len; i += 2)
        scratch_give(d->scratch, g_array_index(surplus, uint32_t, i),
                     g_array_index(surplus, uint32_t, i + 1));
    g_array_unref(surplus);
}

bool hand_over(struct view *v, uint64_t block, uint32_t entry)
{
    for (struct view *u = atomic_load(&v->older); u; u = atomic_load(&u->older)) {
        uint32_t theirs;

        if (block >= u->blocks)
            continue;
        bitmap_set(u->touched, block << v->disk->unit_shift, 1);
        for (;;) {
            view_wait_copied(u, block);
            theirs = atomic_load(&u->map[block]);
            if (theirs != BLOCK_NEEDED || atomic_load(&u->state) != VIEW_LIVE)
                break;
            if (atomic_compare_exchange_strong(&u->map[block], &theirs, entry)) {
                if (entry >= BLOCK_KEPT_SLOT)
                    atomic_fetch_add(&u->kept, 1);
                return true;
            }
        }
        if (block_kept(theirs))
            return false; /* it has the block of its own, and so has all that is older */
    }
    return false;
}
