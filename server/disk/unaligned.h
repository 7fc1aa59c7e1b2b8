/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranges of any bytes on an image that takes whole blocks only (min_block).
 *
 * Clients that have asked for the block sizes keep to them. Those that have not, such as the Linux
 * kernel's, send what a disk of 512-byte sectors takes; for them the outer blocks of a range are
 * read whole, and to be changed they are read, changed in part and written back. The caller holds
 * these blocks alone meanwhile (range-lock.h), from inside the gate, with their old data kept and
 * their bits set.
 *
 * Memory is that of two blocks, whatever the length: what lies between the outer ones goes from and
 * to the caller's own. None of it where the range is of whole blocks.
 */
#ifndef DISK_UNALIGNED_H
#define DISK_UNALIGNED_H

#include "server/disk/disk-private.h"

/* A range of bytes, and the image's blocks around and inside it. An image whose size is no multiple
 * of its block ends with a shorter one. */
struct blocks {
    uint64_t from, to;         /* the bytes */
    uint64_t begin, end;       /* all blocks that hold any of them */
    uint64_t inner, inner_end; /* those that hold nothing else; equal: none */
    uint32_t block;            /* bytes */
    bool whole;                /* the two are the same: no block is needed in part */
};

/* Does the image take whole blocks only, of more than a byte? */
static inline bool has_blocks(const struct node_io *io)
{
    return __builtin_expect(io->info.min_block > 1, 0);
}

/* Where that is so. */
struct blocks blocks_around(const struct node_io *io, uint64_t length, uint64_t offset);

/* Where any byte is a block there is nothing to work out. */
static inline struct blocks blocks_of(const struct node_io *io, uint64_t length, uint64_t offset)
{
    uint64_t end = offset + length;

    if (has_blocks(io))
        return blocks_around(io, length, offset);
    return (struct blocks){offset, end, offset, end, offset, end, .block = 1, .whole = true};
}

/* Does the image take the range as it is? Always so where it takes any byte. */
static inline bool is_aligned(const struct node_io *io, uint64_t length, uint64_t offset)
{
    return __builtin_expect(((offset | length) & (io->info.min_block - 1)) == 0, 1);
}

/* Reads whole blocks of a disk or of a view. */
int read_blocks(struct node_io *io, void *buf, uint32_t length, uint64_t offset);

/* Reads b->from to b->to; for a view too. */
int unaligned_read(struct node_io *io, void *buf, const struct blocks *b);

/* Write b->from to b->to of a disk, where that is not whole blocks; `flags`: BACKEND_FUA. */
int unaligned_write(struct node_io *io, const void *buf, const struct blocks *b, uint32_t flags);

/* Write zeroes from b->from to b->inner and from b->inner_end to b->to, that is, where whole blocks
 * are not zeroed otherwise. */
int unaligned_zero_edges(struct node_io *io, const struct blocks *b, uint32_t flags);

#endif
