/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chain of views of a disk, and how a view leaves it.
 *
 *     oldest  <->  ...  <->  newest  ->  the disk itself
 *
 * A view finds a block in its own map, else in that of the next newer view that kept it, else on
 * the disk. Writers keep a block for the newest view that needs it, so each old block is kept once.
 *
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
 *
 * A broken view stays in the chain until it is deleted, because older views may need what it kept.
 */
#include "common/util/error.h"
#include "server/disk/drain.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* As many blocks does a TRIM of a view take out before it lets others, view_delete on the control
 * thread among them, have their turn: milliseconds. */
#define TRIM_BLOCKS (64u << 10)

struct view *view_new(struct disk *d, const char *name, const struct view_options *options,
                      GError **err)
{
    struct view *v = g_new0(struct view, 1);

    v->node.kind = NODE_VIEW;
    v->node.name = g_strdup(name);
    v->disk = d;
    v->size = atomic_load(&d->size);
    v->blocks = (v->size >> d->unit_shift) + ((v->size & (d->unit - 1)) != 0);
    v->options = *options;
    pthread_mutex_init(&v->lock, NULL);
    v->map = mmap(NULL, MAX(v->blocks, 1) * sizeof *v->map, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (v->map == MAP_FAILED) {
        v->map = NULL;
        fail_errno(err, errno, "disk %s: view %s: a map of %" PRIu64 " blocks", d->node.name, name,
                   v->blocks);
        view_free(v);
        return NULL;
    }
    (void)madvise(v->map, MAX(v->blocks, 1) * sizeof *v->map, MADV_NOHUGEPAGE);
    v->touched = bitmap_new(v->size, VIEW_TOUCHED_UNIT, err);
    if (!v->touched) {
        g_prefix_error(err, "disk %s: view %s: ", d->node.name, name);
        view_free(v);
        return NULL;
    }
    return v;
}

void view_free(struct view *v)
{
    if (v->map)
        munmap(v->map, MAX(v->blocks, 1) * sizeof *v->map);
    bitmap_unref(v->touched);
    pthread_mutex_destroy(&v->lock);
    log_limit_end(&v->node.open_errors);
    log_limit_end(&v->read_errors);
    log_limit_end(&v->keep_errors);
    g_free(v->node.name);
    g_free(v);
}

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

struct node *view_node(struct view *v)
{
    return &v->node;
}

struct disk *view_disk(struct view *v)
{
    return v->disk;
}

const char *view_name(const struct view *v)
{
    return v->node.name;
}

struct view *node_to_view(struct node *n)
{
    return n->kind == NODE_VIEW ? (struct view *)n : NULL;
}

void view_use_begin(struct view *v)
{
    atomic_fetch_add(&v->uses, 1);
}

void view_use_end(struct view *v)
{
    atomic_fetch_sub(&v->uses, 1);
}

GPtrArray *disk_views(struct disk *d)
{
    GPtrArray *views;

    pthread_mutex_lock(&d->lock);
    views = g_ptr_array_copy(d->views, NULL, NULL);
    pthread_mutex_unlock(&d->lock);
    return views;
}

void view_info(struct view *v, struct view_info *info)
{
    *info = (struct view_info){
        .size = v->size,
        .scratch_bytes = atomic_load(&v->kept) << v->disk->unit_shift,
        .scratch_limit = v->options.scratch_limit,
        .on_error = v->options.on_error,
        .instant_usec = v->instant_usec,
        .broken = atomic_load(&v->state) == VIEW_BROKEN,
        .in_use = atomic_load(&v->uses) > 0,
    };
    pthread_mutex_lock(&v->lock);
    g_strlcpy(info->reason, v->reason, sizeof info->reason);
    pthread_mutex_unlock(&v->lock);
}

void view_break(struct view *v, const char *reason)
{
    pthread_mutex_lock(&v->lock);
    if (atomic_exchange(&v->state, VIEW_BROKEN) != VIEW_BROKEN) {
        g_strlcpy(v->reason, reason, sizeof v->reason);
        if (v->disk->events.view_broken)
            v->disk->events.view_broken(v->disk->events.opaque, v->node.name, v->disk->node.name,
                                        reason);
    }
    pthread_mutex_unlock(&v->lock);
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

static void lock_chain(struct disk *d)
{
    pthread_mutex_lock(&d->chain_turn);
    pthread_mutex_lock(&d->chain_lock);
    pthread_mutex_unlock(&d->chain_turn);
}

static void unlock_chain(struct disk *d)
{
    pthread_mutex_unlock(&d->chain_lock);
}

/* Slots on their way back to scratch, gathered into runs. */
static void surplus_add(GArray *surplus, uint32_t entry)
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

/* Give `entry`, v's kept block, to the next older view that needs it. False: none does. */
static bool hand_over(struct view *v, uint64_t block, uint32_t entry)
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

static void unlink_view(struct view *v)
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

int view_trim(struct node_io *io, uint64_t length, uint64_t offset)
{
    struct view *v = node_to_view(io->node);
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
