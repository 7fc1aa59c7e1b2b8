/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copy-before-write.
 *
 * The problem: a writer, inside the gate, is about to change some blocks. A view that still finds
 * one of them on the disk must get it into scratch first, and only once, while other writers do the
 * same.
 *
 * States of a block in a view's map, and who moves it on:
 *
 *     NEEDED --(writer: compare-and-swap)--> COPYING --(the same writer)--> kept
 *                                               \--(it failed)--> NEEDED
 *
 * Which view keeps it: walking from the newest to the oldest,
 *     kept               the view and all older ones find the block here: nothing to do
 *     COPYING            somebody is at it: wait, look again
 *     NEEDED, live       claim it
 *     DROPPED, or NEEDED in a broken or retiring view: it does not want it; ask the next older
 *
 * Invariants
 *  - `kept` is published (sequentially consistent) before the writer touches the disk. So a reader
 *    that read the disk and then finds the block not kept has read the old data.
 *  - After claiming, the view's state is looked at again: one that broke in between gives the block
 *    back, because a writer that saw it broken may have moved on to the older view. Of "I claimed"
 *    and "it is broken" at least one sees the other. For that, a writer that passes a broken view
 *    by looks at the view's state first and at its entry second. (In the other order it may find
 *    the entry not yet claimed, and then a view that broke only after the claim was checked. Both
 *    writers would keep the block, and the slower one might keep what the quicker one has written
 *    already.)
 *  - A writer waits for a block only while it holds no claim itself, so writers never wait in a
 *    circle.
 */
#include "common/util/log-limit.h"
#include "server/disk/image-io.h"
#include "server/disk/view-chain.h"
#include "server/disk/view-map.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Most bytes that are kept in one go: the size of a thread's copy buffer. */
#define COPY_BYTES (256u << 10)
/* From this size on it pays to ask for holes before reading. */
#define ASK_HOLES_BYTES (64u << 10)

enum need { NEED_NOTHING, NEED_WAIT, NEED_COPY };

static enum need who_needs(struct view *newest, uint64_t block, struct view **view)
{
    for (struct view *v = newest; v; v = atomic_load(&v->older)) {
        uint32_t state, entry;

        if (block >= v->blocks)
            continue;                   /* the disk has grown since */
        state = atomic_load(&v->state); /* before the entry: see "After claiming" above */
        entry = view_entry(v, block);
        *view = v;
        if (block_kept(entry))
            return NEED_NOTHING;
        if (entry == BLOCK_COPYING || entry == BLOCK_CONTENDED)
            return NEED_WAIT;
        if (entry == BLOCK_NEEDED && state == VIEW_LIVE)
            return NEED_COPY;
    }
    return NEED_NOTHING;
}

static void publish(struct view *v, uint64_t block, uint32_t entry)
{
    /* Where the map was lost meanwhile, nobody knows whether somebody waits. */
    if (atomic_exchange(&v->map[block], entry) == BLOCK_CONTENDED || view_map_is_lost(v))
        futex_wake_all(&v->map[block]);
}

static bool claim(struct view *v, uint64_t block)
{
    uint32_t needed = BLOCK_NEEDED;

    if (!atomic_compare_exchange_strong(&v->map[block], &needed, BLOCK_COPYING))
        return false;
    disk_at(v->disk, POINT_KEEP_CLAIMING, block << v->disk->unit_shift);
    if (atomic_load(&v->state) == VIEW_LIVE)
        return true;
    publish(v, block, BLOCK_NEEDED);
    return false;
}

/* ---- one run of claimed blocks ---- */

struct keep {
    struct disk *disk;
    struct view *view;
    struct backend_handle *handle;
    uint64_t block; /* first one not yet published */
    uint64_t end;
    char *buffer; /* of COPY_BYTES */
    char reason[160];
};

/* Bytes of the disk in [block, block + n): the last block may be short. */
static uint64_t bytes_of(const struct keep *k, uint64_t block, uint64_t n)
{
    uint64_t offset = block << k->disk->unit_shift;

    return MIN(n << k->disk->unit_shift, atomic_load(&k->disk->size) - offset);
}

static void publish_all(struct keep *k, uint64_t n, uint32_t entry)
{
    for (uint64_t i = 0; i < n; i++)
        publish(k->view, k->block + i, entry);
    k->block += n;
}

static bool is_zero(const char *p, size_t length)
{
    return p[0] == 0 && memcmp(p, p + 1, length - 1) == 0;
}

/* Keep n blocks of zeroes, as marks. Only here, where it matters, the image is asked whether they
 * are a hole. */
static void keep_zeroes(struct keep *k, uint64_t n)
{
    while (n > 0) {
        struct extents e = EXTENTS_INIT;
        uint64_t length = bytes_of(k, k->block, n), known = 1;
        uint32_t entry = BLOCK_KEPT_ZERO;
        const struct backend_ops *ops = k->handle->backend->ops;

        if (k->handle->can_extents &&
            ops->extents(k->handle, length, k->block << k->disk->unit_shift, 0, &e) == 0 &&
            e.count > 0) {
            known = e.list[0].length >= length ? n : e.list[0].length >> k->disk->unit_shift;
            if (known > 0 && (e.list[0].flags & EXTENT_HOLE))
                entry = BLOCK_KEPT_HOLE;
        } else {
            known = n;
        }
        extents_free(&e);
        known = MAX(known, 1); /* a block that is only in part a hole counts as allocated */
        publish_all(k, known, entry);
        n -= known;
    }
}

static int note(struct keep *k, int error, const char *what, uint64_t offset)
{
    g_snprintf(k->reason, sizeof k->reason, "disk %s: %s at %" PRIu64 ": %s", k->disk->node.name,
               what, offset, g_strerror(-error));
    return error;
}

/* -EDQUOT: a limit of the view is reached. Else n blocks count in what it shares with others. */
static int check_limits(struct keep *k, uint64_t n)
{
    struct view *v = k->view;
    uint64_t limit = v->options.scratch_limit;

    if (limit && (atomic_load(&v->kept) + n) << k->disk->unit_shift > limit) {
        g_snprintf(k->reason, sizeof k->reason,
                   "scratch: the view's limit of %" PRIu64 " bytes is reached", limit);
        return -EDQUOT;
    }
    if (!view_may_keep(v, n)) {
        g_snprintf(k->reason, sizeof k->reason,
                   "scratch: the limit of %" PRIu64 " bytes of views together is reached",
                   view_quota_limit(v->options.quota));
        return -EDQUOT;
    }
    return 0;
}

/* Write at most n blocks into scratch, to *slot. Returns how many. */
static int write_slots(struct keep *k, const char *data, uint64_t n, uint32_t *slot)
{
    struct disk *d = k->disk;
    char why[120];
    int got = scratch_take(k->view->scratch, (unsigned)n, slot, why), error;

    if (got < 0) {
        g_snprintf(k->reason, sizeof k->reason, "disk %s: %s", d->node.name, why);
        return got;
    }
    error = scratch_write(k->view->scratch, *slot, data, (unsigned)got);
    if (error == 0)
        error = disk_at(d, POINT_SCRATCH_WRITE, k->block << d->unit_shift);
    if (error == 0)
        return got;
    scratch_give(k->view->scratch, *slot, (unsigned)got);
    return note(k, error, "scratch: write", (uint64_t)*slot << d->unit_shift);
}

/* Keep n blocks of data, which are in the buffer from `data` on. -EDQUOT: a limit of the view is
 * reached, which concerns no other. All of them count in advance, also where scratch has room for them
 * only piece by piece: what counts is never refused later. */
static int keep_data(struct keep *k, const char *data, uint64_t n)
{
    struct disk *d = k->disk;
    int got = check_limits(k, n);

    if (got < 0)
        return got;
    while (n > 0) {
        uint32_t slot;

        got = write_slots(k, data, n, &slot);
        if (got < 0) {
            view_keeps_less(k->view, n);
            return got;
        }
        atomic_fetch_add(&k->view->kept, (uint64_t)got);
        for (int i = 0; i < got; i++)
            publish(k->view, k->block++, BLOCK_KEPT_SLOT + slot + (uint32_t)i);
        data += (size_t)got << d->unit_shift;
        n -= (uint64_t)got;
    }
    return 0;
}

/* Read n blocks and keep them, those of zeroes as marks. */
static int keep_read(struct keep *k, uint64_t n)
{
    struct disk *d = k->disk;
    uint64_t offset = k->block << d->unit_shift, length = bytes_of(k, k->block, n);
    int error = image_read(d, k->handle, k->buffer, (uint32_t)length, offset);

    if (error < 0)
        return note(k, error, "read of old data", offset);
    memset(k->buffer + length, 0, (n << d->unit_shift) - length);
    disk_at(d, POINT_KEEP_READ, offset);

    for (uint64_t i = 0, run; i < n; i += run) {
        const char *data = k->buffer + (i << d->unit_shift);
        bool zero = is_zero(data, d->unit);

        for (run = 1; i + run < n; run++)
            if (is_zero(data + (run << d->unit_shift), d->unit) != zero)
                break;
        if (zero) {
            keep_zeroes(k, run);
        } else {
            error = keep_data(k, data, run);
            if (error < 0)
                return error;
        }
    }
    return 0;
}

/* Keep the claimed blocks. In a long run the image is asked for holes first, so that trimming a
 * sparse disk reads nothing. */
static int keep_run(struct keep *k)
{
    struct disk *d = k->disk;
    const struct backend_ops *ops = k->handle->backend->ops;
    int error = 0;

    while (error == 0 && k->block < k->end) {
        uint64_t left = k->end - k->block, length = bytes_of(k, k->block, left);
        struct extents e = EXTENTS_INIT;
        bool hole = false;

        if (k->handle->can_extents && length >= ASK_HOLES_BYTES &&
            ops->extents(k->handle, length, k->block << d->unit_shift, 0, &e) == 0 && e.count > 0) {
            uint64_t blocks = e.list[0].length >> d->unit_shift;

            hole = (e.list[0].flags & (EXTENT_HOLE | EXTENT_ZERO)) == (EXTENT_HOLE | EXTENT_ZERO) &&
                   (blocks > 0 || e.list[0].length >= length);
            if (e.list[0].length < length)
                left = MAX(blocks, 1);
        }
        extents_free(&e);
        if (hole)
            publish_all(k, left, BLOCK_KEPT_HOLE);
        else
            error = keep_read(k, left);
    }
    return error;
}

static char *copy_buffer(void)
{
    static GPrivate key = G_PRIVATE_INIT(free);
    char *buffer = g_private_get(&key);

    if (!buffer && posix_memalign((void **)&buffer, 4096, COPY_BYTES) == 0)
        g_private_set(&key, buffer);
    return buffer;
}

/* ---- what happens when it cannot be kept ---- */

/* The block could not be kept in v. Break v and the older views that need the block from it; with
 * `only`, break v alone. -EIO if one of these views would rather break the guest's write: then no
 * view is broken. */
static int cannot_keep(struct view *v, uint64_t block, bool only, const char *reason)
{
    for (int pass = 0; pass < 2; pass++) {
        for (struct view *u = v; u; u = only ? NULL : atomic_load(&u->older)) {
            uint32_t entry = block < u->blocks ? view_entry(u, block) : BLOCK_DROPPED;

            if (block_kept(entry))
                break;
            if (entry == BLOCK_DROPPED || atomic_load(&u->state) != VIEW_LIVE)
                continue;
            if (pass == 0 && u->options.on_error == CBW_BREAK_GUEST_WRITE)
                return -EIO;
            if (pass == 1)
                view_break(u, reason);
        }
    }
    return 0;
}

/* Claim the blocks from `block` on that view v needs, as many as fit into the copy buffer, and keep
 * them. *next: the first block that is not done. */
static int keep_some(struct disk *d, struct view *newest, struct view *v, struct backend_handle *h,
                     uint64_t block, uint64_t end, uint64_t *next)
{
    struct keep k = {.disk = d, .view = v, .handle = h, .block = block, .buffer = copy_buffer()};
    struct view *who;
    int error;

    *next = block;
    end = MIN(end, block + (COPY_BYTES >> d->unit_shift));
    view_touch(v, block, end - block);
    if (!claim(v, block))
        return 0;
    k.end = block + 1;
    while (k.end < end && who_needs(newest, k.end, &who) == NEED_COPY && who == v &&
           claim(v, k.end))
        k.end++;
    disk_at(d, POINT_KEEP_CLAIMED, block << d->unit_shift);

    error = k.buffer ? keep_run(&k) : note(&k, -ENOMEM, "copy buffer", block << d->unit_shift);
    *next = k.block;
    if (error == 0)
        return 0;
    error = cannot_keep(v, k.block, error == -EDQUOT, k.reason);
    if (error < 0)
        log_error_limited(&v->keep_errors,
                          "view %s: a guest's write fails, because old data cannot be kept: %s",
                          v->node.name, k.reason);
    for (uint64_t b = k.block; b < k.end; b++)
        publish(v, b, BLOCK_NEEDED);
    return error;
}

int view_keep(struct disk *d, struct backend_handle *h, uint64_t offset, uint64_t length)
{
    struct view *newest = atomic_load(&d->newest), *v;
    uint64_t block = offset >> d->unit_shift;
    uint64_t end = ((offset + length - 1) >> d->unit_shift) + 1;

    while (block < end) {
        int error;

        switch (who_needs(newest, block, &v)) {
        case NEED_NOTHING:
            block++;
            break;
        case NEED_WAIT:
            view_wait_copied(v, block);
            break;
        case NEED_COPY:
            error = keep_some(d, newest, v, h, block, end, &block);
            if (error < 0)
                return error;
            break;
        }
    }
    /* Whatever was kept is visible before the caller's first store into the image. */
    atomic_thread_fence(memory_order_seq_cst);
    return 0;
}
