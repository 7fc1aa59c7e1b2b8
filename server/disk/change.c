/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/change.h"

#include "server/disk/image-io.h"

/* ---- pieces ---- */

/* The piece from `offset` on. A hole stays a hole: nothing changes, so nothing need be kept, and
 * trimming a huge sparse disk under a view costs no memory for marks. (A writer that fills the hole
 * meanwhile keeps it first, as any writer does.) */
static struct piece piece_at(struct node_io *io, uint64_t offset, uint64_t length)
{
    uint64_t hole = image_hole_at(io->handle, offset, length);
    uint64_t piece = MIN(length, IMAGE_PIECE - offset % IMAGE_PIECE);

    return (struct piece){offset, hole ? hole : piece, hole > 0};
}

static int keep(struct node_io *io, uint64_t begin, uint64_t end)
{
    return begin == end ? 0 : view_keep(io->disk, io->handle, begin, end - begin);
}

static int keep_piece(struct node_io *io, const struct piece *p)
{
    return p->hole ? 0 : keep(io, p->offset, p->offset + p->length);
}

int change_next(struct node_io *io, const struct change *c, struct piece *p)
{
    uint64_t offset = p->offset + p->length, length = c->blocks.inner_end - offset;

    if (length == 0)
        return 0;
    *p = (struct piece){offset, length, false};
    if (c->keeping != KEEP_BY_PIECE ||
        !atomic_load_explicit(&io->disk->newest, memory_order_relaxed))
        return 1;
    *p = piece_at(io, offset, length);
    int error = keep_piece(io, p);
    return error < 0 ? error : 1;
}

/* ---- what is kept at once ---- */

static int keep_data(struct node_io *io, uint64_t begin, uint64_t end)
{
    struct piece p = {.offset = begin};
    int error = 0;

    while (error == 0 && p.offset + p.length < end) {
        p = piece_at(io, p.offset + p.length, end - p.offset - p.length);
        error = keep_piece(io, &p);
    }
    return error;
}

int change_keep(struct node_io *io, const struct change *c)
{
    const struct blocks *b = &c->blocks;

    if (c->keeping == KEEP_ALL)
        return keep(io, b->begin, b->end);
    int error = keep(io, b->begin, b->inner);
    if (error == 0)
        error = keep(io, b->inner_end, b->end);
    if (error == 0 && c->keeping == KEEP_DATA)
        error = keep_data(io, b->inner, b->inner_end);
    return error;
}
