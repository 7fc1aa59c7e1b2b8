/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/unaligned.h"

#include "server/disk/image-io.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct blocks blocks_around(const struct node_io *io, uint64_t length, uint64_t offset)
{
    uint64_t mask = io->info.min_block - 1, size = io_size(io);
    struct blocks b = {.from = offset, .to = offset + length, .block = io->info.min_block};

    b.begin = b.from & ~mask;
    b.end = MIN((b.to + mask) & ~mask, size);
    b.inner = (b.from + mask) & ~mask;
    b.inner_end = b.to == size ? size : b.to & ~mask;
    b.inner_end = MAX(b.inner, b.inner_end);
    b.whole = b.from == b.begin && b.to == b.end;
    return b;
}

/* Room for two blocks, free() it; NULL: none, and that has been logged. */
static char *two_blocks(struct node_io *io, const struct blocks *b, const char *what)
{
    void *buffer;

    if (posix_memalign(&buffer, MAX(4096, b->block), 2 * (size_t)b->block) == 0)
        return buffer;
    log_error_limited(&io->disk->write_errors, "%s: %s at %" PRIu64 ": no memory", io->node->name,
                      what, b->from);
    return NULL;
}

/* ---- reading ---- */

int read_blocks(struct node_io *io, void *buf, uint32_t length, uint64_t offset)
{
    return io->view ? view_read(io->view, io->handle, buf, length, offset)
                    : image_read(io->disk, io->handle, buf, length, offset);
}

/* Bytes [from, to) of the blocks [begin, end), at most two, by way of `buffer`. */
static int read_part(struct node_io *io, char *buffer, uint64_t begin, uint64_t end, uint64_t from,
                     uint64_t to, void *buf)
{
    int error = read_blocks(io, buffer, (uint32_t)(end - begin), begin);

    if (error == 0)
        memcpy(buf, buffer + (from - begin), to - from);
    return error;
}

static int read_parts(struct node_io *io, char *buffer, char *buf, const struct blocks *b)
{
    int error = 0;

    if (b->end - b->begin <= 2 * (uint64_t)b->block)
        return read_part(io, buffer, b->begin, b->end, b->from, b->to, buf);
    if (b->from < b->inner)
        error = read_part(io, buffer, b->begin, b->inner, b->from, b->inner, buf);
    if (error == 0)
        error = read_blocks(io, buf + (b->inner - b->from), (uint32_t)(b->inner_end - b->inner),
                            b->inner);
    if (error == 0 && b->inner_end < b->to)
        error = read_part(io, buffer, b->inner_end, b->end, b->inner_end, b->to,
                          buf + (b->inner_end - b->from));
    return error;
}

int unaligned_read(struct node_io *io, void *buf, const struct blocks *b)
{
    if (b->whole)
        return read_blocks(io, buf, (uint32_t)(b->to - b->from), b->from);
    char *buffer = two_blocks(io, b, "read");
    int error = buffer ? read_parts(io, buffer, buf, b) : -ENOMEM;
    free(buffer);
    return error;
}

/* ---- changing ---- */

/* Put `data` (NULL: zeroes) over the bytes [from, to) of the blocks [begin, end), at most two. */
static int rewrite(struct node_io *io, char *buffer, uint64_t begin, uint64_t end, uint64_t from,
                   uint64_t to, const char *data, uint32_t flags)
{
    uint32_t n = (uint32_t)(end - begin);
    int error = image_read(io->disk, io->handle, buffer, n, begin);

    if (error < 0)
        return error;
    disk_at(io->disk, POINT_EDGE_READ, begin);
    if (data)
        memcpy(buffer + (from - begin), data, to - from);
    else
        memset(buffer + (from - begin), 0, to - from);
    return image_write(io->disk, io->handle, buffer, n, begin, flags);
}

static int write_parts(struct node_io *io, char *buffer, const char *buf, const struct blocks *b,
                       uint32_t flags)
{
    int error = 0;

    if (b->end - b->begin <= 2 * (uint64_t)b->block)
        return rewrite(io, buffer, b->begin, b->end, b->from, b->to, buf, flags);
    if (b->from < b->inner)
        error = rewrite(io, buffer, b->begin, b->inner, b->from, b->inner, buf, flags);
    if (error == 0)
        error = image_write(io->disk, io->handle, buf + (b->inner - b->from),
                            (uint32_t)(b->inner_end - b->inner), b->inner, flags);
    if (error == 0 && b->inner_end < b->to)
        error = rewrite(io, buffer, b->inner_end, b->end, b->inner_end, b->to,
                        buf + (b->inner_end - b->from), flags);
    return error;
}

int unaligned_write(struct node_io *io, const void *buf, const struct blocks *b, uint32_t flags)
{
    char *buffer = two_blocks(io, b, "write");
    int error = buffer ? write_parts(io, buffer, buf, b, flags) : -ENOMEM;
    free(buffer);
    return error;
}

static int zero_parts(struct node_io *io, char *buffer, const struct blocks *b, uint32_t flags)
{
    int error = 0;

    if (b->inner == b->inner_end)
        return rewrite(io, buffer, b->begin, b->end, b->from, b->to, NULL, flags);
    if (b->from < b->inner)
        error = rewrite(io, buffer, b->begin, b->inner, b->from, b->inner, NULL, flags);
    if (error == 0 && b->inner_end < b->to)
        error = rewrite(io, buffer, b->inner_end, b->end, b->inner_end, b->to, NULL, flags);
    return error;
}

int unaligned_zero_edges(struct node_io *io, const struct blocks *b, uint32_t flags)
{
    if (b->whole)
        return 0;
    char *buffer = two_blocks(io, b, "zero");
    int error = buffer ? zero_parts(io, buffer, b, flags) : -ENOMEM;
    free(buffer);
    return error;
}
