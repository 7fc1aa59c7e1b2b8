/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a server answers to BLOCK_STATUS, put together from two meta contexts: which ranges are to be
 * copied, and which of them read as zeroes. Pure: it trusts nothing that a server sends, and takes
 * the side of copying too much. One thread at a time.
 */
#ifndef COMMON_COPY_NBD_MAP_H
#define COMMON_COPY_NBD_MAP_H

#include "common/copy/source.h"

#include <stddef.h>

struct nbd_map;

enum nbd_map_context {
    NBD_MAP_DIRTY,      /* flag 1: dirty */
    NBD_MAP_ALLOCATION, /* flag 2: reads as zeroes. (Flag 1, a hole, says nothing about that.) */
};

/* What does not change from one question to the next. */
struct nbd_map_disk {
    uint32_t align;   /* what is told begins and ends at multiples of it, or with the question */
    bool has_context; /* only what is dirty is told; else everything is dirty */
};

struct nbd_map *nbd_map_new(const struct nbd_map_disk *disk);
void nbd_map_free(struct nbd_map *m); /* NULL is fine */

/* Forget what was answered; the question is now about this range, which is not empty. */
void nbd_map_ask(struct nbd_map *m, uint64_t offset, uint64_t length);

/* Take what the server sends of a context: `count` numbers, pairs of a length and flags. It may be
 * shorter than the question, or longer. False: the server sends too much, and may never stop. */
bool nbd_map_take(struct nbd_map *m, enum nbd_map_context context, const uint32_t *entries,
                  size_t count);

/* Has anything been answered that tell goes by? Without it nbd_map_tell says that all is data, or,
 * if it would have to know what is dirty, may not be called. */
bool nbd_map_is_answered(const struct nbd_map *m);

/* Tell what there is, as copy_source_ops.extents does. The end is that of the shorter context. */
int nbd_map_tell(const struct nbd_map *m, copy_extent_sink sink, void *opaque, uint64_t *end,
                 GError **err);

#endif
