/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a copy reads from: a disk of which some ranges are to be copied, and what they are.
 *
 * Lanes: each thread of a copy has a number of its own below `lanes`; functions with a `lane` may be
 * called by all of them at once, each with its own.
 */
#ifndef COMMON_COPY_SOURCE_H
#define COMMON_COPY_SOURCE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* A range to be copied. What is not to be copied (not dirty) is not told at all. */
struct copy_extent {
    uint64_t offset, length; /* bytes; length is not 0 */
    bool zero;               /* it reads as zeroes; else it has to be read */
};
/* Extents come ascending, without overlaps, inside of the range that was asked for. 0, or -1 and
 * *err: nothing more is told, and the caller fails with it. */
typedef int (*copy_extent_sink)(void *opaque, const struct copy_extent *extent, GError **err);

/* A range and where its bytes are. */
struct copy_piece {
    uint64_t offset;
    size_t length;
    uint8_t *data;
};

struct copy_source;

struct copy_source_ops {
    /*
     * Tell what there is to copy in a range. *end is up to where it was told: beyond `offset`, at
     * most offset + length; a source may stop early, and is asked again. One lane at a time.
     */
    int (*extents)(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                   copy_extent_sink sink, void *opaque, uint64_t *end, GError **err);
    /* Ask for `n` pieces, which stay the caller's and untouched until read_wait. A lane has up to
     * two such batches under way, and waits for the older one first. It does not wait, where the
     * source can do without. A failure may also be told by read_wait. After a -1 of its own nothing
     * of the batch is under way, and it is not waited for. */
    int (*read_start)(struct copy_source *s, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err);
    /* Wait until the oldest batch of the lane is read. Also after a failure its buffers are not
     * written to any more. Each batch is waited for, also where the copy has failed. */
    int (*read_wait)(struct copy_source *s, unsigned lane, GError **err);
    /* The range has been copied, durably, and will not be read again. NULL: nobody cares. */
    int (*trim)(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                GError **err);
    /* Let what waits fail soon: the copy is cancelled. Any thread. NULL: nothing waits long. */
    void (*cancel)(struct copy_source *s);
    void (*free)(struct copy_source *s);
};

struct copy_source {
    const struct copy_source_ops *ops;
    uint64_t size;     /* of the disk, bytes */
    uint64_t expected; /* bytes to be read, as far as is known beforehand; 0: not known */
    unsigned lanes;    /* most that it takes */
    uint32_t align;    /* of reads, a power of two: 1, or a server's least block */
    uint32_t max_read; /* longest piece, bytes */
};

static inline void copy_source_free(struct copy_source *s)
{
    if (s)
        s->ops->free(s);
}

#endif
