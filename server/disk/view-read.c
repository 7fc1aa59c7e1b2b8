/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading a view without making a guest wait.
 *
 * A reader reads the disk into the caller's buffer, which nobody sees yet. Then it looks where each
 * block of it is.
 *  - Not kept: the disk had the old data at the moment of the read, because `kept` is published
 *    before the writer touches the disk (view-keep.c). So what was read is right.
 *  - Kept meanwhile: the block is read again, from scratch.
 *  - The view is broken: the data may be anything, and the answer is EIO.
 *
 * All of it happens inside the grace d->readers, so that neither a view on the way nor a slot can
 * be taken away in between.
 *
 * A read that must not block does the same with what is in the page cache. It leaves what is in
 * scratch to somebody who may wait.
 */
#include "common/util/log-limit.h"
#include "server/disk/image-io.h"
#include "server/disk/view-chain.h"
#include "server/disk/view-map.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Where a run of blocks is. */
enum where { ON_DISK, IN_SCRATCH, ZEROES };

static enum where where_is(uint32_t entry)
{
    return entry >= BLOCK_KEPT_SLOT ? IN_SCRATCH : entry == BLOCK_NEEDED ? ON_DISK : ZEROES;
}

struct range {
    struct view *view;
    struct backend_handle *handle;
    char *buffer;
    uint64_t offset;
    uint64_t length;
    bool now; /* without blocking: NODE_WOULD_BLOCK, or -EAGAIN, instead */
};

/* The run of blocks from r->offset on that are alike: all on the disk, in consecutive slots, or
 * kept with the same mark. Returns its bytes inside the range, at least 1; *entry is the map's
 * entry of its first block. */
static uint64_t find_run(const struct range *r, uint32_t *entry)
{
    unsigned shift = r->view->disk->unit_shift;
    uint64_t block = r->offset >> shift, end = ((r->offset + r->length - 1) >> shift) + 1, n = 1;

    *entry = view_resolve(r->view, block);
    for (; block + n < end; n++) {
        uint32_t next = view_resolve(r->view, block + n);

        if (next != (where_is(*entry) == IN_SCRATCH ? *entry + n : *entry))
            break;
    }
    return MIN(r->length, ((block + n) << shift) - r->offset);
}

static void advance(struct range *r, uint64_t n)
{
    r->buffer += n;
    r->offset += n;
    r->length -= n;
}

static int read_kept(const struct range *r, uint32_t entry, uint64_t n)
{
    struct disk *d = r->view->disk;

    if (where_is(entry) == ZEROES) {
        memset(r->buffer, 0, n);
        return 0;
    }
    if (r->now)
        return -EAGAIN; /* it may well be in the page cache: a reader's average says how quick it is */
    int error = scratch_read(r->view->scratch, entry - BLOCK_KEPT_SLOT, r->buffer,
                             (uint32_t)(r->offset & (d->unit - 1)), (uint32_t)n);
    if (error < 0)
        log_error_limited(&r->view->read_errors,
                          "view %s: scratch: read of %" PRIu64 " bytes kept of %" PRIu64 ": %s",
                          r->view->node.name, n, r->offset, g_strerror(-error));
    return error;
}

/* The range was read from the disk. Replace the blocks that have been kept meanwhile. */
static int second_look(struct range r)
{
    while (r.length > 0) {
        uint32_t entry;
        uint64_t n = find_run(&r, &entry);
        int error = where_is(entry) == ON_DISK ? 0 : read_kept(&r, entry, n);

        if (error < 0)
            return error;
        advance(&r, n);
    }
    return 0;
}

static int read_image(const struct range *r, uint64_t n)
{
    return r->now ? image_read_now(r->handle, r->buffer, (uint32_t)n, r->offset)
                  : image_read(r->view->disk, r->handle, r->buffer, (uint32_t)n, r->offset);
}

static int read_range(struct range r)
{
    while (r.length > 0) {
        uint32_t entry;
        uint64_t n = find_run(&r, &entry);
        int error;

        if (where_is(entry) == ON_DISK) {
            struct range done = r;

            done.length = n;
            error = read_image(&r, n);
            atomic_thread_fence(memory_order_seq_cst);
            disk_at(r.view->disk, POINT_VIEW_BASE_READ, r.offset);
            if (error == 0)
                error = second_look(done);
        } else {
            error = read_kept(&r, entry, n);
        }
        if (error < 0)
            return error;
        advance(&r, n);
    }
    return 0;
}

/* Has anything been lost that says where the view's blocks are? */
static bool is_lost(const struct view *v)
{
    for (const struct view *w = v; w; w = atomic_load(&w->newer))
        if (view_map_is_lost(w))
            return true;
    return false;
}

static int read_within_grace(struct range r)
{
    struct view *v = r.view;
    unsigned phase = grace_enter(&v->disk->readers);
    int error = read_range(r);

    /* The state is looked at last, because a view breaks before the guest's write goes out, and before a
     * newer one whose map is lost leaves the chain. */
    if (is_lost(v) || atomic_load(&v->state) != VIEW_LIVE)
        error = -EIO;
    grace_leave(&v->disk->readers, phase);
    return error;
}

int view_read(struct view *v, struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    return read_within_grace(
        (struct range){.view = v, .handle = h, .buffer = buf, .offset = offset, .length = length});
}

int view_read_now(struct view *v, struct backend_handle *h, void *buf, uint32_t length,
                  uint64_t offset)
{
    return read_within_grace((struct range){
        .view = v, .handle = h, .buffer = buf, .offset = offset, .length = length, .now = true});
}

/* ---- base:allocation of a view ---- */

/* The first offset in [at, end) about which the map of v or of a newer view may say something;
 * `end` if there is none. */
static uint64_t next_touched(const struct view *v, uint64_t at, uint64_t end)
{
    uint64_t nearest, handovers, start, length;

    do { /* as in view_resolve: a view may leave the chain while we walk */
        handovers = atomic_load(&v->disk->handovers);
        nearest = end;
        for (const struct view *w = v; w; w = atomic_load(&w->newer))
            if (bitmap_next_dirty(w->touched, at, nearest, &start, &length))
                nearest = start;
    } while (handovers != atomic_load(&v->disk->handovers));
    return nearest;
}

static int add_blocks(struct extents *out, const struct extents *base, uint64_t from,
                      struct range r)
{
    while (r.length > 0) {
        uint64_t touched = next_touched(r.view, r.offset, r.offset + r.length);
        uint32_t entry = BLOCK_NEEDED;
        uint64_t n;
        int error;

        if (touched > r.offset) {
            n = touched - r.offset;
        } else {
            struct range part = r;

            /* Look no further than this touched piece, so that no untouched one is walked. */
            part.length = MIN(r.length, VIEW_TOUCHED_UNIT - (r.offset & (VIEW_TOUCHED_UNIT - 1)));
            n = find_run(&part, &entry);
        }
        switch (entry) {
        case BLOCK_NEEDED:
            error = extents_add_part(out, base, r.offset - from, n);
            break;
        case BLOCK_KEPT_ZERO:
            error = extents_add(out, n, EXTENT_ZERO);
            break;
        case BLOCK_KEPT_HOLE:
        case BLOCK_DROPPED:
            error = extents_add(out, n, EXTENT_HOLE | EXTENT_ZERO);
            break;
        default:
            error = extents_add(out, n, 0);
        }
        if (error < 0)
            return error;
        r.offset += n;
        r.length -= n;
    }
    return 0;
}

int view_extents(struct view *v, struct backend_handle *h, uint64_t length, uint64_t offset,
                 uint32_t flags, struct extents *extents)
{
    struct extents base = EXTENTS_INIT;
    unsigned phase = grace_enter(&v->disk->readers);
    int error = h->backend->ops->extents(h, length, offset, flags, &base);

    atomic_thread_fence(memory_order_seq_cst);
    disk_at(v->disk, POINT_VIEW_BASE_READ, offset);
    if (error == 0) {
        struct range r = {
            .view = v, .handle = h, .offset = offset, .length = MIN(length, base.total)};

        error = add_blocks(extents, &base, offset, r);
        if (error == -ENOSPC && extents->count > 0)
            error = 0; /* the list is full: a shorter answer */
    }
    if (is_lost(v) || atomic_load(&v->state) != VIEW_LIVE)
        error = -EIO;
    grace_leave(&v->disk->readers, phase);
    extents_free(&base);
    return error;
}
