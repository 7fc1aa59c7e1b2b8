/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a copy writes into. Lanes as in source.h. Every offset and length is a multiple of `align`,
 * but for an end at the end of the disk.
 */
#ifndef COMMON_COPY_TARGET_H
#define COMMON_COPY_TARGET_H

#include "common/copy/source.h"

struct copy_target;

struct copy_target_ops {
    /* Write pieces, which are ascending. */
    int (*write)(struct copy_target *t, unsigned lane, const struct copy_piece *pieces, size_t n,
                 GError **err);
    /* A range that reads as zeroes from now on. Where the target is new and has nothing below, it
     * does nothing. */
    int (*zero)(struct copy_target *t, unsigned lane, uint64_t offset, uint64_t length,
                GError **err);
    /* All below this offset has come. Ascending, one call at a time, also while lanes write above
     * it. NULL: nobody cares. */
    int (*below)(struct copy_target *t, uint64_t offset, GError **err);
    /* What has come up to now is to be durable: by calls that have returned. Lanes go on writing
     * meanwhile; never at once with below. NULL: only finish does that. */
    int (*sync)(struct copy_target *t, GError **err);
    /* All has come; make it whole, and durable. No lane is in a call. */
    int (*finish)(struct copy_target *t, GError **err);
    void (*cancel)(struct copy_target *t); /* as a source's; NULL: nothing waits long */
    void (*free)(struct copy_target *t);
};

struct copy_target {
    const struct copy_target_ops *ops;
    uint64_t size;  /* bytes that it takes; a copy from a disk that is larger fails */
    unsigned lanes; /* most that it takes; 0: any number */
    uint32_t align; /* a power of two; ranges are rounded to it, outwards, before they are read */
    uint32_t max_write; /* longest piece, bytes; 0: any */
    bool ordered; /* a stream: pieces and zeroes come in ascending order, one call at a time */
};

static inline void copy_target_free(struct copy_target *t)
{
    if (t)
        t->ops->free(t);
}

#endif
