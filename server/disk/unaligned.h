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

#include "server/disk/node.h"

/* A range of bytes, and the image's blocks around and inside it. An image whose size is no multiple
 * of its block ends with a shorter one. */
struct blocks {
    uint64_t from, to;         /* the bytes */
    uint64_t begin, end;       /* all blocks that hold any of them */
    uint64_t inner, inner_end; /* those that hold nothing else; equal: none */
    uint32_t block;            /* bytes */
    bool whole;                /* the two are the same: no block is needed in part */
};

/* Of an image with min_block > 1. */
struct blocks blocks_around(const struct node_io *io, uint64_t length, uint64_t offset);

/* Reads b->from to b->to; for a view too. */
int unaligned_read(struct node_io *io, void *buf, const struct blocks *b);

/* Write b->from to b->to of a disk, where that is not whole blocks; `flags`: BACKEND_FUA. */
int unaligned_write(struct node_io *io, const void *buf, const struct blocks *b, uint32_t flags);

/* Write zeroes from b->from to b->inner and from b->inner_end to b->to, that is, where whole blocks
 * are not zeroed otherwise. */
int unaligned_zero_edges(struct node_io *io, const struct blocks *b, uint32_t flags);

#endif
