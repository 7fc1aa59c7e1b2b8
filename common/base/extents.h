/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A list of consecutive extents from some start offset: what a BLOCK_STATUS reply carries for one
 * meta context. Lengths are bytes. Equal neighbours are merged as they are added, so no two
 * neighbours carry the same flags. Owned and used by one thread.
 */
#ifndef COMMON_BASE_EXTENTS_H
#define COMMON_BASE_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Flags of base:allocation (NBD proto.md, "base:allocation"). */
#define EXTENT_HOLE 1u
#define EXTENT_ZERO 2u
/* Flag of qemu:dirty-bitmap:NAME. */
#define EXTENT_DIRTY 1u

/* The most extents that one list takes before it is full: 1 MiB of a reply for each context. */
#define EXTENTS_MAX 131072u

struct extent {
    uint64_t length;
    uint32_t flags;
};

struct extents {
    struct extent *list;
    size_t count, allocated;
    uint64_t total; /* sum of all lengths */
    size_t most;    /* extents that it takes before it is full; 0: EXTENTS_MAX */
};

#define EXTENTS_INIT                                                                               \
    {                                                                                              \
        NULL, 0, 0, 0, 0                                                                           \
    }

/* Append `length` bytes with `flags`; 0 bytes is nothing. Returns 0; -ENOSPC when the list is full
 * (nothing added: what is in it stays valid and shorter); -ENOMEM. */
int extents_add(struct extents *e, uint64_t length, uint32_t flags);

/* Append `length` bytes of another list, from its byte `skip` on; if it ends before, what there is.
 * Returns as extents_add does, but when the list is full, what fitted in has been added. */
int extents_add_part(struct extents *e, const struct extents *other, uint64_t skip,
                     uint64_t length);

/* Cut the list down to its first `total` bytes. A list that is not longer stays as it is. */
void extents_truncate(struct extents *e, uint64_t total);

/* Empty the list, keep its memory for the next use. */
void extents_clear(struct extents *e);

/* Release the memory; the list is then as after EXTENTS_INIT. */
void extents_free(struct extents *e);

#endif
