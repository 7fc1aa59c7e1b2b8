/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing a new qcow2 file in one pass: version 3, clusters of 64 KiB, counts of 16 bits. Clusters
 * come in any order and from several threads; each is written once, behind all that has been
 * written before, and so are the tables, each when all of its clusters are there. The header is
 * last: a file that is not whole has no magic, and nothing takes it for an image.
 *
 * (The .c file begins with the layout, the invariants and the lock order.)
 *
 * Lanes: each thread that writes has a number of its own below `lanes`; what has a `lane` may be
 * called by all of them at once, each with its own. The rest: one thread at a time.
 */
#ifndef COMMON_QCOW2_Q2_STREAM_H
#define COMMON_QCOW2_Q2_STREAM_H

#include "common/qcow2/q2-error.h"
#include "common/qcow2/q2-header.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct q2_stream;

#define Q2_STREAM_CLUSTER 65536 /* bytes */

/*
 * Told of everything that is written into the file, each byte exactly once: one range from `offset`
 * on, which is in `n` pieces of memory one after the other; a hole that is left in the file comes
 * as one piece whose iov_base is NULL. Called by the thread that has written, also by several at
 * once. Offsets are in no order; together, at the end of q2_stream_finish, they cover the file.
 * What is told is never changed again. 0, or -1 and *err: the call that wrote fails.
 */
typedef int (*q2_wrote)(void *opaque, uint64_t offset, const struct iovec *iov, size_t n,
                        struct q2_error *err);

struct q2_stream_options {
    uint64_t size;              /* of the disk, bytes; 0 is allowed */
    const char *backing;        /* name of the backing file as it is written; NULL: none */
    const char *backing_format; /* "qcow2" or "raw"; needed where there is a backing file */
    bool compress;
    enum q2_compression compression;
    int level;          /* of the compression; 0: the default, 1 for zstd */
    bool detect_zeroes; /* clusters of nothing but zeroes are stored as such */
    unsigned lanes;     /* 1.. */
    q2_wrote wrote;     /* may be NULL */
    void *opaque;
};

/* Begin. `fd` is an empty regular file open for reading and writing, which stays the caller's; the
 * strings are copied. NULL and *err. */
struct q2_stream *q2_stream_new(int fd, const struct q2_stream_options *o, struct q2_error *err);
void q2_stream_free(struct q2_stream *s); /* NULL is fine; the file stays as it is */

/* Bytes of the disk. Offset and length are multiples of Q2_STREAM_CLUSTER, but for an end at the end
 * of the disk. */
struct q2_piece {
    uint64_t offset;
    size_t length;
    const void *data;
};

/* Write `n` pieces, in ascending order, none of which has been written before. 0, or -1 and *err:
 * the file is of no use any more. */
int q2_stream_write(struct q2_stream *s, unsigned lane, const struct q2_piece *pieces, size_t n,
                    struct q2_error *err);

/* A range that reads as zeroes, aligned in the same way. Over a backing file it is stored as zero
 * clusters; else as nothing. */
int q2_stream_zero(struct q2_stream *s, unsigned lane, uint64_t offset, uint64_t length,
                   struct q2_error *err);

/* Nothing will come below this offset any more: tables of it can be written. Ascending. What never
 * came is unallocated. May be called while lanes write above it. */
int q2_stream_below(struct q2_stream *s, uint64_t offset, struct q2_error *err);

/* All has come: write the tables that are left, the counts, sync, write the header, sync. No lane
 * may be in a call. 0, or -1 and *err. */
int q2_stream_finish(struct q2_stream *s, struct q2_error *err);

/* Bytes of the file up to now; exact after q2_stream_finish. Any thread. */
uint64_t q2_stream_file_size(const struct q2_stream *s);

/*
 * An image whose map is known before its data, written without going back: everything but data
 * comes first, then the clusters in ascending order, so that it can go into a pipe. Uncompressed.
 */
struct q2_extent_known {
    uint64_t offset, length; /* aligned as pieces are; ascending */
    bool zero;               /* else data, which follows */
};
/* Can there be such an image? To be known before its map is read. 0, or -1 and *err. */
int q2_stream_head_check(const struct q2_stream_options *o, struct q2_error *err);
/* Write the head of it to fd. 0, or -1 and *err. After it the caller writes the data of all data
 * extents, in order, the last cluster filled up with zeroes. */
int q2_stream_head(int fd, const struct q2_stream_options *o, const struct q2_extent_known *extents,
                   size_t n, struct q2_error *err);

#endif
