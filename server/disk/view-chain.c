/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-chain.h"

#include "server/disk/view-map.h"

/* Who waits for a copy, and may be told to stop, looks so often whether it is. */
#define STOP_LOOK_NS 50000000

/* After the process's death, the chain is made of what the files say. A view that does not last takes with
 * it what it keeps for older ones. */
static void note_link(struct view *v)
{
    const char *scratch = scratch_id(v->scratch);

    v->disk->sequence++;
    if (v->file && scratch) {
        struct lasting_view *head = &v->file->head->view;

        head->instant_usec = v->instant_usec;
        g_strlcpy(head->scratch, scratch, sizeof head->scratch);
        atomic_store(&head->sequence, v->disk->sequence);
        atomic_store(&head->linked, 1);
        return;
    }
    for (struct view *u = v; u; u = atomic_load(&u->older))
        view_map_incomplete(u);
}

void view_link(struct view *v, int64_t instant_usec)
{
    struct disk *d = v->disk;
    struct view *newest = atomic_load(&d->newest);

    v->instant_usec = instant_usec;
    atomic_store(&v->older, newest);
    if (newest)
        atomic_store(&newest->newer, v);
    if (d->state.lasting)
        note_link(v);
    atomic_store(&d->newest, v);
}

/* What a map said that was cut short is gone: older views may need it. Its slots are nobody's. */
static void lose_map(struct view *v)
{
    for (struct view *u = v; u; u = atomic_load(&u->older))
        view_break(u, "the map of a view was cut short in memory");
    scratch_forget(v->scratch, 0, (unsigned)atomic_load(&v->kept));
    view_loses(v, atomic_load(&v->kept));
}

static void note_unlink(struct view *v)
{
    if (!v->disk->keeps)
        atomic_store(&v->file->head->view.linked, 0);
    if (view_map_is_lost(v))
        lose_map(v);
}

void view_unlink(struct view *v)
{
    struct disk *d = v->disk;
    struct view *older = atomic_load(&v->older), *newer = atomic_load(&v->newer);

    v->left = !d->keeps;
    if (v->file)
        note_unlink(v);
    if (older)
        atomic_store(&older->newer, newer);
    if (newer)
        atomic_store(&newer->older, older);
    else
        atomic_store(&d->newest, older);
    pthread_mutex_lock(&d->lock);
    v->gone = true;
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
        entry = view_entry(v, block);
        if (block_kept(entry) || entry == BLOCK_DROPPED)
            return entry;
        for (struct view *w = atomic_load(&v->newer); w; w = atomic_load(&w->newer)) {
            entry = view_entry(w, block);
            if (block_kept(entry))
                return entry;
        }
    } while (handovers != atomic_load(&d->handovers));
    return BLOCK_NEEDED;
}

void view_wait_copied(struct view *v, uint64_t block)
{
    view_wait_copied_or(v, block, NULL);
}

bool view_wait_copied_or(struct view *v, uint64_t block, const atomic_bool *stop)
{
    for (;;) {
        uint32_t entry = atomic_load(&v->map[block]);

        if (entry != BLOCK_COPYING && entry != BLOCK_CONTENDED)
            return true;
        if (stop && atomic_load(stop))
            return false;
        if (entry == BLOCK_CONTENDED ||
            atomic_compare_exchange_strong(&v->map[block], &entry, BLOCK_CONTENDED))
            futex_wait(&v->map[block], BLOCK_CONTENDED,
                       stop ? &(struct timespec){.tv_nsec = STOP_LOOK_NS} : NULL);
    }
}

/* ---- taking blocks out of a view ---- */

static bool lock_or(pthread_mutex_t *lock, const atomic_bool *stop)
{
    struct timespec until;

    do {
        if (stop && atomic_load(stop))
            return false;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += STOP_LOOK_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
    } while (pthread_mutex_timedlock(lock, &until) != 0);
    return true;
}

bool lock_chain(struct disk *d, const atomic_bool *stop)
{
    bool locked;

    if (!lock_or(&d->chain_turn, stop))
        return false;
    locked = lock_or(&d->chain_lock, stop);
    pthread_mutex_unlock(&d->chain_turn);
    return locked;
}

void unlock_chain(struct disk *d)
{
    pthread_mutex_unlock(&d->chain_lock);
}

enum heir hand_over(struct view *v, uint64_t block, uint32_t entry, const atomic_bool *stop)
{
    for (struct view *u = atomic_load(&v->older); u; u = atomic_load(&u->older)) {
        uint32_t theirs;

        if (block >= u->blocks)
            continue;
        view_touch(u, block, 1);
        for (;;) {
            if (!view_wait_copied_or(u, block, stop))
                return HEIR_UNKNOWN;
            theirs = atomic_load(&u->map[block]);
            if (theirs != BLOCK_NEEDED || atomic_load(&u->state) != VIEW_LIVE)
                break;
            if (atomic_compare_exchange_strong(&u->map[block], &theirs, entry)) {
                if (entry >= BLOCK_KEPT_SLOT)
                    view_inherits(u);
                return HEIR_FOUND;
            }
        }
        if (block_kept(theirs))
            return HEIR_NONE; /* it has the block of its own, and so has all that is older */
    }
    return HEIR_NONE;
}
