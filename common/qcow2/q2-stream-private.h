/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the stream writer share. q2-stream.c begins with the design.
 *
 * `lock` guards what says so beside it, and nothing is written to the file under it. `writing` is held
 * by the one thread that writes to the file: the kernel lets in one at a time anyway, and others that
 * wait there do so by spinning. Both are leaves.
 */
#ifndef COMMON_QCOW2_Q2_STREAM_PRIVATE_H
#define COMMON_QCOW2_Q2_STREAM_PRIVATE_H

#include "common/qcow2/q2-entry.h"
#include "common/qcow2/q2-stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define CLUSTER_BITS  16
#define CLUSTER       ((uint64_t)Q2_STREAM_CLUSTER)
#define TABLE_ENTRIES (CLUSTER / 8)             /* of an L1, L2 or refcount table, in a cluster */
#define TABLE_RANGE   (TABLE_ENTRIES * CLUSTER) /* of the disk, that an L2 table maps */
#define BLOCK_COUNTS  (CLUSTER / 2)             /* of a refcount block */
#define BLOCK_RANGE   (BLOCK_COUNTS * CLUSTER)  /* of the file, that a refcount block counts */
/* Entries that an L1 table may have, by the 32 MiB that readers take. */
#define L1_MOST UINT64_C(4194304)

static inline uint64_t clusters_of(uint64_t bytes)
{
    return bytes / CLUSTER + (bytes % CLUSTER != 0);
}

/* ---- the file's space: q2-stream-space.c ---- */

/* A range of the file that nobody writes; length 0: none. */
struct q2_gap {
    uint64_t offset, length;
};

/* Which part of the file is handed out, and how often each of its clusters is referred to. Space is
 * only ever taken behind all that was taken before. */
struct q2_space {
    _Atomic uint64_t next;   /* all below is handed out; of whole clusters */
    uint64_t pack, pack_end; /* what is left of the newest cluster with compressed ones */
    uint8_t **blocks;        /* refcount blocks as the file has them; NULL from when written */
    size_t n_blocks;
    size_t first_block; /* those below have been handed out for writing */
};

/* A cluster of the disk on its way into the file. */
struct q2_cluster {
    uint64_t offset;     /* of the disk */
    const uint8_t *data; /* raw, or compressed; NULL: zeroes */
    uint32_t length;     /* bytes at data */
    enum q2_kind kind;   /* Q2_ZERO, Q2_DATA or Q2_COMPRESSED */
    uint64_t host;       /* where it goes, from q2_space_place on */
};

/* Take `n` whole clusters, whose counts are 1 from now on. 0, or -1 and *err. */
int q2_space_take(struct q2_space *p, uint64_t n, uint64_t *host, struct q2_error *err);
/*
 * Give each cluster its place. The compressed ones before *behind fill up what earlier ones have
 * left; all others go to the end of the file, raw ones first. *gap is what will not be filled up
 * any more. 0, or -1 and *err.
 */
int q2_space_place(struct q2_space *p, struct q2_cluster *clusters, size_t n, size_t *behind,
                   struct q2_gap *gap, struct q2_error *err);
/* Leave what is left of a cluster with compressed ones as it is. */
struct q2_gap q2_space_close_pack(struct q2_space *p);
/* The next refcount block that will not change any more and has not been asked for yet, which is the
 * caller's from now on (free), and its number; NULL: there is none. */
uint8_t *q2_space_next_block(struct q2_space *p, size_t *number);
void q2_space_free(struct q2_space *p);

/* ---- the stream ---- */

#define LANE_CLUSTERS 256 /* most that are written at once: 16 MiB */
#define LANE_PACKED   32  /* the same where they are compressed: bounds the lane's memory */
#define LANE_PIECES   512 /* of memory, in one pwritev: less than IOV_MAX */

/* What one thread needs for writing. */
struct q2_lane {
    struct q2_cluster clusters[LANE_CLUSTERS];
    size_t n;
    struct iovec iov[LANE_PIECES]; /* of one range of the file, which is about to be written */
    size_t n_iov;
    uint64_t at, end;  /* that range */
    uint8_t *last;     /* the disk's last cluster, filled up with zeroes */
    uint8_t *packed;   /* the compressed clusters; NULL unless they are compressed */
    size_t packed_end; /* bytes */
    ZSTD_CCtx *zstd;   /* NULL: not this one */
    z_stream zlib;
    bool zlib_made;
};

struct q2_stream {
    int fd;
    struct q2_stream_options o;
    uint64_t l1_entries, l1_clusters;
    struct q2_header header; /* but for what is known at the end */
    struct q2_lane *lanes;
    atomic_bool failed;  /* something was not written: the file stays without a header */
    struct q2_error why; /* lock; since `failed` is set */
    pthread_mutex_t writing;

    pthread_mutex_t lock;
    struct q2_space space; /* lock */
    uint64_t *l1;          /* lock; offsets of tables in the file, or 0 */
    uint8_t **tables;    /* lock; L2 tables that are not in the file yet, as it has them; or NULL */
    uint64_t first_open; /* lock; tables below are closed */

    uint64_t *blocks; /* offsets of refcount blocks in the file; of who may close tables */
    size_t n_blocks;
};

/* Where a call has failed, of which *why tells: the file is of no use any more, and calls that come later
 * fail with the first such reason. Takes the lock. Returns `result`, with *err, where it is not 0. */
int q2_stream_outcome(struct q2_stream *s, int result, const struct q2_error *why,
                      struct q2_error *err);
/* 0, or -1 and *err, where the file is of no use any more. Takes the lock. */
int q2_stream_usable(struct q2_stream *s, struct q2_error *err);

/* The header of a file, but for what is known at the end. 0, or -1 and *err. */
int q2_stream_header(const struct q2_stream_options *o, struct q2_header *h, struct q2_error *err);

/* ---- the file: q2-stream-io.c ---- */

/* Write pieces of memory to a range of the file, and tell. The pieces stay as they are. */
int q2_stream_put(struct q2_stream *s, uint64_t offset, const struct iovec *iov, size_t n,
                  struct q2_error *err);
/* Tell of a range that stays as it is: zeroes. */
int q2_stream_leave(struct q2_stream *s, const struct q2_gap *gap, struct q2_error *err);
int q2_stream_sync(struct q2_stream *s, struct q2_error *err);

/* ---- tables and counts: q2-stream-tables.c, q2-stream-counts.c ---- */

int q2_stream_tables_init(struct q2_stream *s, struct q2_error *err);
void q2_stream_tables_free(struct q2_stream *s);
/* Set the entry of a cluster of the disk. Needs the lock. -1 and *err: it has one, its table is
 * closed, or there is no memory. */
int q2_stream_set(struct q2_stream *s, uint64_t offset, uint64_t entry, struct q2_error *err);
/* Make a range zero clusters; aligned, but for an end at the disk's. Takes the lock. */
int q2_stream_set_zero(struct q2_stream *s, uint64_t offset, uint64_t length, struct q2_error *err);
/* Write the tables below this one, and let nothing come into them. */
int q2_stream_close_tables(struct q2_stream *s, uint64_t upto, struct q2_error *err);
/* Write the L1 table. All tables are closed. */
int q2_stream_write_l1(struct q2_stream *s, struct q2_error *err);

/* Write the refcount blocks that are full. */
int q2_stream_write_full_blocks(struct q2_stream *s, struct q2_error *err);
/* Write all the others, and the refcount table; what they need themselves is counted. The header's
 * fields are set. */
int q2_stream_write_counts(struct q2_stream *s, struct q2_error *err);

/* ---- compression: q2-stream-compress.c ---- */

int q2_lane_open(struct q2_lane *l, const struct q2_stream_options *o, struct q2_error *err);
void q2_lane_close(struct q2_lane *l);
/* Compress a raw cluster behind what is packed already. One that does not get smaller stays raw. */
int q2_lane_compress(struct q2_lane *l, struct q2_cluster *c, struct q2_error *err);

#endif
