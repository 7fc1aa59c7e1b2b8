/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest write, step by step (the order is the product's promise):
 *   enter the gate; keep old data for views; set the bits; write; leave the gate.
 * If keeping fails, nothing was marked or changed. If the write fails, its bits stay set.
 *
 * On an image that takes whole blocks only, what is kept, marked and held against others is all of
 * the blocks that a range touches (unaligned.h); between the gate and keeping comes the range lock.
 *
 * Which handle a client uses: one of its own where the plugin promises that handles are coherent
 * (can_multi_conn); else the disk's, shared by all, because copy-before-write and views must see
 * what every client has written. Also where a client's own cannot be had: what the promise says of
 * two handles holds for the disk's as well. A view's reader always uses the disk's.
 */
#include "common/util/error.h"
#include "common/base/file-io.h"
#include "common/util/log-limit.h"
#include "server/disk/disk-private.h"
#include "server/disk/unaligned.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/uio.h>
#include <unistd.h>

static void fill_info(struct node_io *io, bool writable)
{
    const struct backend_handle *h = io->handle;
    bool view = io->node->kind == NODE_VIEW;
    bool can_write = writable && !view && !io->disk->readonly && h->can_write;

    io->info = (struct node_info){
        .size = node_size(io->node),
        .readonly = !can_write,
        .can_trim = view ? io->discard : can_write && h->can_trim,
        .can_flush = view || h->can_flush,
        .can_fua = view || h->can_fua,
        .can_fast_zero = can_write && h->can_fast_zero,
        .can_cache = !view && h->can_cache,
        /* Coherent handles, or a single one; who shares one that is not meant for it flushes for
         * itself. */
        .can_multi_conn = !io->sharing,
        .rotational = h->rotational,
        .has_file = !view && h->fd >= 0,
        .min_block = h->min_block,
        .pref_block = h->pref_block,
        .max_block = h->max_block,
    };
}

static void release_handle(struct node_io *io)
{
    if (io->own_handle)
        io->disk->backend->ops->close(io->handle);
    io->own_handle = false;
    client_copy_free(g_steal_pointer(&io->client));
}

/* All clients of a disk take the same for a block: who rewrites one for some bytes in it would undo
 * what is written by a client that need not, and so does not hold it against others; and views keep
 * what the disk's handle has for a block. */
static int check_blocks(struct node_io *io, GError **err)
{
    const struct disk *d = io->disk;
    uint32_t own = io->handle->min_block, disks = d->handle->min_block;

    if (own == disks)
        return 0;
    release_handle(io);
    return fail(err, "disk %s: %s: a handle has a minimum block of %u bytes, the disk's one of %u",
                d->node.name, d->backend->driver, own, disks);
}

/* Which handle. `patience` NULL: wait for the plugin. */
static int choose_handle(struct node_io *io, const struct backend_client *client,
                         struct patience *patience, int64_t until, GError **err)
{
    struct disk *d = io->disk;
    g_autoptr(GError) error = NULL;
    int r;

    io->handle = d->handle;
    if (io->node->kind == NODE_VIEW || !d->handle->can_multi_conn)
        return 0;
    /* Writable also for those who only read: a plugin may lock its file for the disk's sake. */
    if (patience)
        r = open_handle(d, client, patience, until, &io->handle, &io->client, &error);
    else
        r = d->backend->ops->open(d->backend, d->readonly, client, &io->handle, &error);
    io->own_handle = r == 0;
    if (r == 0)
        r = check_blocks(io, &error);
    io->sharing = r < 0;
    if (r == 0)
        return 0;
    io->handle = d->handle;
    if (atomic_load(&d->backend->judges_clients) || (patience && patience_is_over(patience))) {
        g_propagate_error(err, g_steal_pointer(&error));
        return -1;
    }
    log_error_limited(&d->node.open_errors,
                      "%s: a client has no handle of its own and shares the server's",
                      error->message);
    return 0;
}

int node_io_open_within(struct node *node, bool writable, bool discard,
                        const struct backend_client *client, struct patience *patience,
                        int64_t until, struct node_io **out, GError **err)
{
    struct view *v = node_to_view(node);
    struct disk *d = v ? v->disk : node_to_disk(node);
    struct node_io *io = g_new0(struct node_io, 1);

    io->node = node;
    io->disk = d;
    io->discard = v && discard;
    if (choose_handle(io, client, patience, until, err) < 0) {
        g_free(io);
        return -1;
    }
    if (!v) {
        if (posix_memalign((void **)&io->slot, _Alignof(struct gate_slot), sizeof *io->slot) != 0) {
            release_handle(io);
            g_free(io);
            return fail(err, "disk %s: out of memory", d->node.name);
        }
        gate_slot_add(&d->gate, io->slot);
        atomic_fetch_add(&d->ios, 1); /* before the size is read: see stage_resize */
    }
    fill_info(io, writable);
    *out = io;
    return 0;
}

int node_io_open(struct node *node, bool writable, bool discard,
                 const struct backend_client *client, struct node_io **out, GError **err)
{
    return node_io_open_within(node, writable, discard, client, NULL, 0, out, err);
}

void node_io_close(struct node_io *io)
{
    if (io->slot) {
        gate_slot_remove(io->slot);
        free(io->slot);
        atomic_fetch_sub(&io->disk->ios, 1);
    }
    release_handle(io);
    g_free(io);
}

const struct node_info *node_io_info(const struct node_io *io)
{
    return &io->info;
}

uint64_t node_size(struct node *node)
{
    struct view *v = node_to_view(node);

    return v ? v->size : atomic_load(&node_to_disk(node)->size);
}

bool node_is_readonly(struct node *node)
{
    struct disk *d = node_to_disk(node);

    return !d || d->readonly;
}

/* ---- reading ---- */

/* What a plugin's callback would say, of a transfer that goes by its descriptor instead. */
static int transferred(const struct disk *d, struct log_limit *limit, const char *what,
                       uint32_t length, uint64_t offset, int error)
{
    if (error < 0)
        log_error_limited(limit, "disk %s: %s of %u bytes at %" PRIu64 ": %s", d->node.name, what,
                          length, offset, g_strerror(-error));
    return error;
}

int disk_pread(struct disk *d, struct backend_handle *h, void *buf, uint32_t length,
               uint64_t offset)
{
    if (h->fd >= 0)
        return transferred(d, &d->read_errors, "read", length, offset,
                           pread_all(h->fd, buf, length, offset));
    return h->backend->ops->pread(h, buf, length, offset);
}

/* What is in the page cache, at once; else all of it has to be read the slow way. */
static int read_cached(int fd, void *buf, uint32_t length, uint64_t offset)
{
    struct iovec iov = {.iov_base = buf, .iov_len = length};
    ssize_t n = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);

    if (n == (ssize_t)length)
        return 0;
    /* Other errors: the file system does not know the flag, or has something to say to a read. */
    return n >= 0 || errno == EAGAIN ? NODE_WOULD_BLOCK : -EAGAIN;
}

int node_read_blocks(struct node_io *io, void *buf, uint32_t length, uint64_t offset)
{
    return io->node->kind == NODE_DISK ? disk_pread(io->disk, io->handle, buf, length, offset)
                                       : view_read(io, buf, length, offset);
}

static bool has_blocks(const struct node_io *io)
{
    return __builtin_expect(io->info.min_block > 1, 0);
}

/* Where any byte is a block there is nothing to work out. */
static inline struct blocks blocks_of(const struct node_io *io, uint64_t length, uint64_t offset)
{
    uint64_t end = offset + length;

    if (has_blocks(io))
        return blocks_around(io, length, offset);
    return (struct blocks){offset, end, offset, end, offset, end, .block = 1, .whole = true};
}

/* Does the image take the range as it is? Always so where it takes any byte. */
static bool is_aligned(const struct node_io *io, uint64_t length, uint64_t offset)
{
    return __builtin_expect(((offset | length) & (io->info.min_block - 1)) == 0, 1);
}

int node_read(struct node_io *io, void *buf, uint32_t length, uint64_t offset, uint32_t flags)
{
    if (length == 0)
        return 0;
    if (flags & NODE_NOWAIT)
        return node_read_now(io, buf, length, offset);
    if (!is_aligned(io, length, offset)) {
        struct blocks b = blocks_of(io, length, offset);
        return unaligned_read(io, buf, &b);
    }
    return node_read_blocks(io, buf, length, offset);
}

int node_read_now(struct node_io *io, void *buf, uint32_t length, uint64_t offset)
{
    if (length == 0)
        return 0;
    return io->info.has_file && is_aligned(io, length, offset)
               ? read_cached(io->handle->fd, buf, length, offset)
               : -EAGAIN;
}

int node_cached_fd(struct node_io *io, uint32_t length, uint64_t offset)
{
    if (!io->info.has_file || !is_aligned(io, length, offset) ||
        atomic_load_explicit(&io->cache_unknown, memory_order_relaxed))
        return -1;
    int cached = file_is_cached(io->handle->fd, offset, length);
    if (cached < 0)
        atomic_store_explicit(&io->cache_unknown, true, memory_order_relaxed);
    return cached > 0 ? io->handle->fd : -1;
}

/* ---- changing ---- */

/* A change to the image under way. */
struct change {
    struct blocks blocks;
    struct held_range held; /* where the image takes whole blocks only */
};

/* Enter the gate; nobody else changes blocks that this change needs in part. */
static void enter_change(struct node_io *io, struct change *c, uint64_t length, uint64_t offset)
{
    gate_enter(io->slot);
    c->blocks = blocks_of(io, length, offset); /* the disk's size stands still in here */
    disk_at(io->disk, POINT_WRITE_ENTERED, offset);
    if (has_blocks(io))
        range_take(&io->disk->changing, &c->held, c->blocks.begin, c->blocks.end, !c->blocks.whole);
}

static void end_change(struct node_io *io, struct change *c)
{
    if (has_blocks(io))
        range_release(&io->disk->changing, &c->held);
    gate_leave(io->slot);
}

static int keep(struct node_io *io, uint64_t begin, uint64_t end)
{
    struct disk *d = io->disk;

    if (begin == end || !atomic_load_explicit(&d->newest, memory_order_relaxed))
        return 0;
    return view_keep(d, io->handle, begin, end - begin);
}

static void mark(struct node_io *io, const struct blocks *b)
{
    tracker_mark(io->disk->tracker, b->begin, b->end - b->begin);
    disk_at(io->disk, POINT_WRITE_MARKED, b->from);
}

/* Enter the gate, keep, mark. 0: the caller changes the image, then end_change. */
static int begin_change(struct node_io *io, struct change *c, uint64_t length, uint64_t offset)
{
    enter_change(io, c, length, offset);
    int error = keep(io, c->blocks.begin, c->blocks.end);
    if (error < 0)
        end_change(io, c);
    else
        mark(io, &c->blocks);
    return error;
}

/* Refuse what only a disk may do. EPERM stands for the whole class, as the protocol has it. */
static int check_change(const struct node_io *io, uint32_t flags)
{
    if (io->info.readonly)
        return -EPERM;
    return flags & NODE_NOWAIT ? -EAGAIN : 0;
}

int node_write_blocks(struct node_io *io, const void *buf, uint32_t length, uint64_t offset,
                      uint32_t flags)
{
    struct backend_handle *h = io->handle;

    if (h->fd >= 0 && !(flags & BACKEND_FUA))
        return transferred(io->disk, &io->disk->write_errors, "write", length, offset,
                           pwrite_all(h->fd, buf, length, offset));
    return h->backend->ops->pwrite(h, buf, length, offset, flags);
}

int node_write(struct node_io *io, const void *buf, uint32_t length, uint64_t offset,
               uint32_t flags)
{
    int error = check_change(io, flags);
    struct change c;

    if (error < 0 || length == 0)
        return error;
    error = begin_change(io, &c, length, offset);
    if (error < 0)
        return error;
    error = c.blocks.whole ? node_write_blocks(io, buf, length, offset, flags & BACKEND_FUA)
                           : unaligned_write(io, buf, &c.blocks, flags & BACKEND_FUA);
    end_change(io, &c);
    return error;
}

/* ---- zeroes and trims ---- */

typedef int (*clear_op)(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags);

/* A long clear is looked at in pieces: what is a hole is skipped, as long as it is; else so much.
 */
static uint64_t piece_at(uint64_t offset, uint64_t length)
{
    return MIN(length, VIEW_TOUCHED_UNIT - offset % VIEW_TOUCHED_UNIT);
}

/* Where holes are asked for, at most so much at first: some backends tell all that lies in it, of
 * which only the first extent is wanted. If it is a hole to its end, all of the range is asked for.
 */
#define HOLE_ASKED (1ull << 30)

/* How much of [offset, offset + length) is a hole from its beginning on. */
static uint64_t hole_of(struct backend_handle *h, uint64_t offset, uint64_t length)
{
    struct extents e = EXTENTS_INIT;
    uint64_t n = 0;

    if (h->backend->ops->extents(h, length, offset, BACKEND_REQ_ONE, &e) == 0 && e.count > 0 &&
        (e.list[0].flags & (EXTENT_HOLE | EXTENT_ZERO)) == (EXTENT_HOLE | EXTENT_ZERO))
        n = MIN(e.list[0].length, length);
    extents_free(&e);
    return n;
}

/* How much from `offset` on is a hole: all of the range, or whole pieces, or 0. */
static uint64_t hole_at(struct backend_handle *h, uint64_t offset, uint64_t length)
{
    if (!h->can_extents)
        return 0;
    uint64_t n = hole_of(h, offset, MIN(length, HOLE_ASKED));
    if (n == HOLE_ASKED && n < length)
        n = MAX(n, hole_of(h, offset, length));
    if (n == length)
        return n;
    uint64_t end = (offset + n) / VIEW_TOUCHED_UNIT * VIEW_TOUCHED_UNIT;
    return end > offset ? end - offset : 0;
}

/* Inside the gate, bits set, a view is there. What is a hole stays one: nothing changes, so nothing
 * need be kept. So trimming a huge sparse disk under a view costs no memory for marks. (A writer
 * that fills the hole meanwhile keeps it first, as any writer does.) With FUA the backend is asked
 * all the same: that it is a hole may not be on the medium yet.
 *
 * `op` NULL: only keep, for what is then cleared in one piece, whose holes still read as zeroes. */
static int clear_pieces(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags,
                        clear_op op)
{
    while (length > 0) {
        uint64_t hole = hole_at(io->handle, offset, length);
        uint64_t n = hole ? hole : piece_at(offset, length);
        int error = hole ? 0 : view_keep(io->disk, io->handle, offset, n);

        if (error == 0 && op && (!hole || (flags & BACKEND_FUA)))
            error = op(io->handle, n, offset, flags);
        if (error < 0)
            return error;
        offset += n;
        length -= n;
    }
    return 0;
}

/* Keep old data of a long range that is cleared, and clear as much of it as can be in pieces. */
static int keep_long(struct node_io *io, const struct blocks *b, uint32_t flags, clear_op op)
{
    int error = keep(io, b->begin, b->inner);

    if (error == 0)
        error = keep(io, b->inner_end, b->end);
    if (error == 0)
        error = clear_pieces(io, b->inner_end - b->inner, b->inner, flags, op);
    return error;
}

/* Zero or trim, either of which leaves holes where there were holes if `sparse`; else it goes to
 * the backend in one piece. The outer blocks, needed in part, come last. */
static int clear_range(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags,
                       bool sparse, clear_op op)
{
    struct change c;
    const struct blocks *b = &c.blocks;
    bool done = false;
    int error = 0;

    if (length <= VIEW_TOUCHED_UNIT) {
        error = begin_change(io, &c, length, offset);
        if (error < 0)
            return error;
    } else {
        enter_change(io, &c, length, offset);
        mark(io, b);
        if (atomic_load_explicit(&io->disk->newest, memory_order_relaxed)) {
            error = keep_long(io, b, flags, sparse ? op : NULL);
            done = sparse;
        }
    }
    if (error == 0 && !done && b->inner < b->inner_end)
        error = op(io->handle, b->inner_end - b->inner, b->inner, flags);
    if (error == 0)
        error = unaligned_zero_edges(io, b, flags & BACKEND_FUA);
    end_change(io, &c);
    return error;
}

int node_zero(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    uint32_t backend_flags = flags & (BACKEND_FUA | BACKEND_MAY_TRIM | BACKEND_FAST);
    int error = check_change(io, flags);

    if (error < 0 || length == 0)
        return error;
    if ((flags & BACKEND_FAST) && !is_aligned(io, length, offset)) {
        struct blocks b = blocks_of(io, length, offset);
        if (b.inner == b.inner_end)
            return -ENOTSUP; /* it would be written */
    }
    /* A fast zero that is refused must have changed nothing: it goes in one piece. */
    return clear_range(io, length, offset, backend_flags,
                       (flags & (BACKEND_MAY_TRIM | BACKEND_FAST)) == BACKEND_MAY_TRIM,
                       io->handle->backend->ops->zero);
}

int node_trim(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    int error;

    if (io->discard)
        return flags & NODE_NOWAIT ? -EAGAIN : view_trim(io, length, offset);
    error = check_change(io, flags);
    if (error < 0 || length == 0)
        return error;
    if (!io->info.can_trim)
        return -EINVAL;
    struct blocks b = blocks_of(io, length, offset);
    if (b.inner == b.inner_end)
        return 0; /* no block is all in it */
    return clear_range(io, b.inner_end - b.inner, b.inner, flags & BACKEND_FUA, true,
                       io->handle->backend->ops->trim);
}

int node_flush(struct node_io *io, uint32_t flags)
{
    if (io->node->kind == NODE_VIEW || !io->handle->can_flush)
        return 0;
    if (flags & NODE_NOWAIT)
        return -EAGAIN;
    return io->handle->backend->ops->flush(io->handle);
}

int node_cache(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    if (io->node->kind == NODE_VIEW || length == 0)
        return 0;
    if (flags & NODE_NOWAIT)
        return -EAGAIN;
    struct blocks b = blocks_of(io, length, offset);
    return io->handle->backend->ops->cache(io->handle, b.end - b.begin, b.begin);
}

/* Of all blocks that the range touches, and from that the range. */
static int unaligned_extents(struct node_io *io, const struct blocks *b, uint32_t flags,
                             struct extents *extents)
{
    struct extents all = EXTENTS_INIT;
    int error = node_extents(io, b->end - b->begin, b->begin, flags, &all);

    if (error == 0)
        error = extents_add_part(extents, &all, b->from - b->begin, b->to - b->from);
    extents_free(&all);
    return error;
}

int node_extents(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags,
                 struct extents *extents)
{
    if (flags & NODE_NOWAIT)
        return -EAGAIN;
    if (!is_aligned(io, length, offset)) {
        struct blocks b = blocks_of(io, length, offset);
        if (!b.whole)
            return unaligned_extents(io, &b, flags, extents);
    }
    if (io->node->kind == NODE_VIEW)
        return view_extents(io, length, offset, flags & BACKEND_REQ_ONE, extents);
    return io->handle->backend->ops->extents(io->handle, length, offset, flags & BACKEND_REQ_ONE,
                                             extents);
}
