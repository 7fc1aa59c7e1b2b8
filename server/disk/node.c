/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which handle a client uses. Where the plugin promises that handles are coherent (can_multi_conn),
 * a client has a handle of its own. Elsewhere all clients share the disk's handle, because
 * copy-before-write and views must see what every client has written. A client whose own handle
 * cannot be had shares the disk's as well, because the promise holds for the disk's handle, too. A
 * view's reader always uses the disk's handle.
 */
#include "server/disk/node.h"

#include "common/base/file-io.h"
#include "common/util/error.h"
#include "server/disk/change.h"
#include "server/disk/image-io.h"
#include "server/disk/node-stats.h"

#include <errno.h>
#include <string.h>

static void fill_info(struct node_io *io, bool writable)
{
    const struct backend_handle *h = io->handle;
    bool view = io->view != NULL;
    bool can_write = writable && !view && !io->disk->readonly && h->can_write;

    io->info = (struct node_info){
        .size = io_size(io),
        .readonly = !can_write,
        .can_trim = view ? io->discard : can_write && h->can_trim,
        .can_flush = view || h->can_flush,
        .can_fua = view || h->can_fua,
        .can_fast_zero = can_write && h->can_fast_zero,
        .can_cache = !view && h->can_cache,
        /* Handles are coherent, or there is only one. A client that shares the disk's handle where
         * others have their own must flush for itself. */
        .can_multi_conn = !io->sharing,
        .rotational = h->rotational,
        .has_file = !view && image_has_file(h),
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

/* All clients of a disk must have blocks of the same size. A client that rewrites a block for some
 * bytes in it would otherwise undo the writes of a client with smaller blocks, which does not lock
 * them (range-lock.h). Views, too, keep blocks of the size that the disk's handle has. */
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

/* Choose the handle. `patience` NULL: wait for the plugin as long as it takes. */
static int choose_handle(struct node_io *io, const struct backend_client *client,
                         struct patience *patience, int64_t until, GError **err)
{
    struct disk *d = io->disk;
    g_autoptr(GError) error = NULL;
    int r;

    io->handle = d->handle;
    if (io->view || !d->handle->can_multi_conn)
        return 0;
    /* Writable also for a client that only reads, because a plugin may lock its file for the
     * disk's sake. */
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

static bool new_slot(struct node_io *io)
{
    if (posix_memalign((void **)&io->slot, _Alignof(struct gate_slot), sizeof *io->slot) != 0)
        return false;
    memset(io->slot, 0, sizeof *io->slot);
    return true;
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
    io->view = v;
    io->discard = v && discard;
    if (choose_handle(io, client, patience, until, err) < 0) {
        g_free(io);
        return -1;
    }
    if (!new_slot(io)) {
        release_handle(io);
        g_free(io);
        return fail(err, "disk %s: out of memory", d->node.name);
    }
    if (!v) {
        if (d->state.ops)
            io->line = d->state.ops->line_take(d->state.disk);
        gate_slot_add(&d->gate, io->slot);
        atomic_fetch_add(&d->ios, 1); /* before the size is read: see stage_shrink */
    }
    node_ios_add(io);
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
    node_ios_remove(io);
    if (!io->view) {
        gate_slot_remove(io->slot);
        if (io->line)
            io->disk->state.ops->line_give(io->disk->state.disk, io->line);
        atomic_fetch_sub(&io->disk->ios, 1);
    }
    free(io->slot);
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

int node_read(struct node_io *io, void *buf, uint32_t length, uint64_t offset, uint32_t flags)
{
    if (length == 0)
        return 0;
    if (!is_aligned(io, length, offset)) {
        struct blocks b = blocks_of(io, length, offset);
        return unaligned_read(io, buf, &b);
    }
    return read_blocks(io, buf, length, offset);
}

int node_read_now(struct node_io *io, void *buf, uint32_t length, uint64_t offset)
{
    if (length == 0)
        return 0;
    if (!is_aligned(io, length, offset))
        return -EAGAIN;
    return io->view ? view_read_now(io->view, io->handle, buf, length, offset)
                    : image_read_now(io->handle, buf, length, offset);
}

int node_cached_fd(struct node_io *io, uint32_t length, uint64_t offset, uint64_t *host)
{
    if (!io->info.has_file || !is_aligned(io, length, offset) ||
        atomic_load_explicit(&io->cache_unknown, memory_order_relaxed))
        return -1;
    int fd = image_file_of(io->handle, length, offset, host);
    int cached = fd < 0 ? 0 : file_is_cached(fd, *host, length);
    /* Of several files the kernel may tell about another one. */
    if (cached < 0 && (io->handle->fd >= 0 || cached == -ENOSYS))
        atomic_store_explicit(&io->cache_unknown, true, memory_order_relaxed);
    return cached > 0 ? fd : -1;
}

/* ---- changing ---- */

/* Refuse to change what is read-only. The protocol has EPERM for all such refusals. */
static int check_change(const struct node_io *io)
{
    return io->info.readonly ? -EPERM : 0;
}

int node_write(struct node_io *io, const void *buf, uint32_t length, uint64_t offset,
               uint32_t flags)
{
    int error = check_change(io);
    struct change c;

    if (error < 0 || length == 0)
        return error;
    error = change_begin(io, &c, length, offset, KEEP_ALL);
    if (error < 0)
        return error;
    error = c.blocks.whole
                ? image_write(io->disk, io->handle, buf, length, offset, flags & BACKEND_FUA)
                : unaligned_write(io, buf, &c.blocks, flags & BACKEND_FUA);
    change_end(io, &c);
    return error;
}

/* ---- zeroes and trims ---- */

/* Zero or trim. The outer blocks, of which only a part is meant, come last. A hole stays as it is.
 * But with FUA the backend is called for it all the same: that it is a hole may not be on the
 * medium yet. */
static int clear_range(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags,
                       enum keeping keeping, image_clear *op)
{
    struct change c;
    int more, error;

    if (length <= IMAGE_PIECE)
        keeping = KEEP_ALL;
    error = change_begin(io, &c, length, offset, keeping);
    if (error < 0)
        return error;
    struct piece p = {.offset = c.blocks.inner};
    while (error == 0 && (more = change_next(io, &c, &p)) != 0)
        if (more < 0)
            error = more;
        else if (!p.hole || (flags & BACKEND_FUA))
            error = op(io->handle, p.length, p.offset, flags);
    if (error == 0)
        error = unaligned_zero_edges(io, &c.blocks, flags & BACKEND_FUA);
    change_end(io, &c);
    return error;
}

int node_zero(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    uint32_t backend_flags = flags & (BACKEND_FUA | BACKEND_MAY_TRIM | BACKEND_FAST);
    int error = check_change(io);

    if (error < 0 || length == 0)
        return error;
    if ((flags & BACKEND_FAST) && !is_aligned(io, length, offset)) {
        struct blocks b = blocks_of(io, length, offset);
        if (b.inner == b.inner_end)
            return -ENOTSUP; /* it would be written */
    }
    /* Zeroing in pieces leaves holes where there were holes, so the client must allow holes. A fast
     * zero that is refused must have changed nothing, so it goes in one piece. */
    bool pieces = (flags & (BACKEND_MAY_TRIM | BACKEND_FAST)) == BACKEND_MAY_TRIM;
    return clear_range(io, length, offset, backend_flags, pieces ? KEEP_BY_PIECE : KEEP_DATA,
                       image_zero);
}

int node_trim(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    int error;

    if (io->discard)
        return view_trim(io->view, length, offset);
    error = check_change(io);
    if (error < 0 || length == 0)
        return error;
    if (!io->info.can_trim)
        return -EINVAL;
    struct blocks b = blocks_of(io, length, offset);
    if (b.inner == b.inner_end)
        return 0; /* no block is all in it */
    return clear_range(io, b.inner_end - b.inner, b.inner, flags & BACKEND_FUA, KEEP_BY_PIECE,
                       image_trim);
}

bool node_change_waits(struct node_io *io, uint64_t length, uint64_t offset)
{
    return io->line && !io->info.readonly && !cover_is_open(io->disk->state.cover, offset, length);
}

/* A plugin that has a map may write tables now, and the image changes: it is noted as a guest's change is. */
static int flush_tables(struct node_io *io)
{
    unsigned phase = cover_count_in(io->disk->state.cover, io->line);

    atomic_store_explicit(&io->line->changed, cover_clock(), memory_order_relaxed);
    int error = io->handle->backend->ops->flush(io->handle);
    cover_leave(io->line, phase);
    return error;
}

int node_flush(struct node_io *io)
{
    if (io->view || !io->handle->can_flush)
        return 0;
    if (io->line && io->handle->map && !io->info.readonly)
        return flush_tables(io);
    return io->handle->backend->ops->flush(io->handle);
}

int node_cache(struct node_io *io, uint64_t length, uint64_t offset)
{
    if (io->view || length == 0)
        return 0;
    struct blocks b = blocks_of(io, length, offset);
    return io->handle->backend->ops->cache(io->handle, b.end - b.begin, b.begin);
}

/* Ask for all blocks that the range touches, and take of the answer what is in the range. */
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
    if (!is_aligned(io, length, offset)) {
        struct blocks b = blocks_of(io, length, offset);
        if (!b.whole)
            return unaligned_extents(io, &b, flags, extents);
    }
    if (io->view)
        return view_extents(io->view, io->handle, length, offset, flags & BACKEND_REQ_ONE, extents);
    return io->handle->backend->ops->extents(io->handle, length, offset, flags & BACKEND_REQ_ONE,
                                             extents);
}
