/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a file that is written in one pass. What it looks like:
 *
 *     cluster 0          the header and its extensions, written last
 *     from cluster 1 on  the L1 table, whose length follows from the disk's size; written at the end
 *     then, in any order clusters of the disk; L2 tables, each when its part of the disk is done;
 *                        refcount blocks, each when the file has grown past its part
 *     at last            the refcount blocks that are left, and the refcount table
 *
 * Invariants:
 *
 * - Space is only taken at the end of the file, under the lock, together with its count and the
 *   entry that points to it. The bytes are written afterwards, without the lock. Nobody reads
 *   them, and without a header nothing points to the file as a whole.
 * - Each byte of the file is written once, or never, and told once (q2_wrote): what is taken is
 *   written by whoever took it, or is a gap of a pack (q2-stream-space.c).
 * - An entry is set once. What comes twice, or below what was closed, is an error, because one
 *   of the two would be lost.
 * - After an error nothing can finish the file.
 * - All is durable before the header is written. Where writing the header, or its sync, fails, the
 *   magic is taken away again.
 *
 * Who may do what: lanes take space and set entries. Tables are closed, and full blocks are written, by
 * q2_stream_below, which comes one at a time: by its contract no lane has entries left to set in
 * what it closes. q2_stream_finish is alone.
 *
 * Memory: an L2 table (64 KiB) for each 512 MiB of the disk that are not closed yet, a refcount
 * block for the last 2 GiB of the file, an L1 entry and a pointer for each 512 MiB; and what lanes
 * have (q2-stream-private.h).
 *
 * Lock order: there are two locks, and nobody has both (q2-stream-private.h).
 */
#include "common/base/file-io.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- begin ---- */

static int check_file(int fd, struct q2_error *err)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &st) < 0)
        return q2_fail_errno(err, errno, "cannot look at the file");
    if (!S_ISREG(st.st_mode))
        return q2_fail(err, "it is not a regular file");
    if (st.st_size != 0)
        return q2_fail(err, "the file is not empty");
    /* In this mode Linux appends, whatever offset pwrite is given. */
    if (flags & O_APPEND)
        return q2_fail(err, "the file is open for appending");
    return 0;
}

static int copy_text(char *to, size_t size, const char *text, const char *what,
                     struct q2_error *err)
{
    if (!text)
        return 0;
    if (strlen(text) >= size)
        return q2_fail(err, "the %s is longer than %zu bytes", what, size - 1);
    memcpy(to, text, strlen(text) + 1);
    return 0;
}

int q2_stream_header(const struct q2_stream_options *o, struct q2_header *h, struct q2_error *err)
{
    uint64_t entries = o->size / TABLE_RANGE + (o->size % TABLE_RANGE != 0);

    if (entries > L1_MOST)
        return q2_fail(err, "a disk of %llu bytes is larger than qcow2 takes",
                       (unsigned long long)o->size);
    *h = (struct q2_header){
        .version = 3,
        .cluster_bits = CLUSTER_BITS,
        .size = (o->size + 511) / 512 * 512, /* readers round down */
        .l1_size = entries > 0 ? (uint32_t)entries : 1,
        .l1_offset = CLUSTER,
        .refcount_order = 4,
        .compression = o->compress ? o->compression : Q2_ZLIB,
    };
    if (copy_text(h->backing, sizeof h->backing, o->backing, "name of the backing file", err) < 0)
        return -1;
    return copy_text(h->backing_format, sizeof h->backing_format, o->backing_format,
                     "format of the backing file", err);
}

/* Space for what has a fixed place, and tables. */
static int lay_out(struct q2_stream *s, struct q2_error *err)
{
    uint64_t host;

    s->l1_entries = s->header.l1_size;
    s->l1_clusters = clusters_of(s->l1_entries * 8);
    s->lanes = calloc(s->o.lanes, sizeof *s->lanes);
    if (!s->lanes)
        return q2_fail_errno(err, ENOMEM, "no memory for lanes");
    if (q2_stream_tables_init(s, err) < 0)
        return -1;
    return q2_space_take(&s->space, 1 + s->l1_clusters, &host, err);
}

static int begin(struct q2_stream *s, struct q2_error *err)
{
    uint8_t *cluster;
    int result;

    if (s->o.lanes < 1)
        return q2_fail(err, "nobody would write");
    if (check_file(s->fd, err) < 0 || q2_stream_header(&s->o, &s->header, err) < 0 ||
        lay_out(s, err) < 0)
        return -1;
    s->o.backing = s->header.backing[0] ? s->header.backing : NULL;
    s->o.backing_format = s->header.backing_format;
    for (unsigned i = 0; i < s->o.lanes; i++)
        if (q2_lane_open(&s->lanes[i], &s->o, err) < 0)
            return -1;
    /* What the header cannot say is found now, and not after hours. */
    cluster = malloc(CLUSTER);
    if (!cluster)
        return q2_fail_errno(err, ENOMEM, "no memory for the header");
    result = q2_header_build(&s->header, cluster, CLUSTER, err);
    free(cluster);
    return result;
}

struct q2_stream *q2_stream_new(int fd, const struct q2_stream_options *o, struct q2_error *err)
{
    struct q2_stream *s = calloc(1, sizeof *s);

    if (!s) {
        q2_fail_errno(err, ENOMEM, "no memory");
        return NULL;
    }
    s->fd = fd;
    s->o = *o;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->writing, NULL);
    if (begin(s, err) < 0) {
        q2_stream_free(s);
        return NULL;
    }
    return s;
}

void q2_stream_free(struct q2_stream *s)
{
    if (!s)
        return;
    for (unsigned i = 0; s->lanes && i < s->o.lanes; i++)
        q2_lane_close(&s->lanes[i]);
    q2_stream_tables_free(s);
    q2_space_free(&s->space);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->writing);
    free(s->lanes);
    free(s->blocks);
    free(s);
}

uint64_t q2_stream_file_size(const struct q2_stream *s)
{
    return atomic_load_explicit(&s->space.next, memory_order_relaxed);
}

/* ---- go on, and end ---- */

int q2_stream_outcome(struct q2_stream *s, int result, const struct q2_error *why,
                      struct q2_error *err)
{
    if (result == 0)
        return 0;
    pthread_mutex_lock(&s->lock);
    if (!atomic_load(&s->failed))
        s->why = *why;
    atomic_store(&s->failed, true);
    pthread_mutex_unlock(&s->lock);
    if (err)
        *err = *why;
    return result;
}

int q2_stream_usable(struct q2_stream *s, struct q2_error *err)
{
    if (!atomic_load(&s->failed))
        return 0;
    pthread_mutex_lock(&s->lock);
    q2_fail(err, "the file is of no use any more: %s", s->why.text);
    if (err)
        err->number = s->why.number;
    pthread_mutex_unlock(&s->lock);
    return -1;
}

int q2_stream_below(struct q2_stream *s, uint64_t offset, struct q2_error *err)
{
    uint64_t upto = offset >= s->o.size ? s->l1_entries : offset / TABLE_RANGE;
    struct q2_error why;
    int result = q2_stream_close_tables(s, upto, &why);

    if (result == 0)
        result = q2_stream_write_full_blocks(s, &why);
    return q2_stream_outcome(s, result, &why, err);
}

/* A file whose header is not durable is not to be taken for an image. Where this fails, too, nothing
 * is left to be tried, and the caller hears of what failed first. */
static void take_magic_away(struct q2_stream *s)
{
    if (pwrite_all(s->fd, "\0\0\0\0", 4, 0) < 0)
        (void)!ftruncate(s->fd, 0);
}

static int write_header(struct q2_stream *s, struct q2_error *err)
{
    struct iovec iov = {malloc(CLUSTER), CLUSTER};
    int result;

    if (!iov.iov_base)
        return q2_fail_errno(err, ENOMEM, "no memory for the header");
    result = q2_header_build(&s->header, iov.iov_base, CLUSTER, err);
    if (result == 0) {
        result = q2_stream_put(s, 0, &iov, 1, err);
        if (result == 0)
            result = q2_stream_sync(s, err);
        if (result < 0)
            take_magic_away(s);
    }
    free(iov.iov_base);
    return result;
}

static int finish(struct q2_stream *s, struct q2_error *err)
{
    if (q2_stream_usable(s, err) < 0)
        return -1;
    if (q2_stream_close_tables(s, s->l1_entries, err) < 0 || q2_stream_write_l1(s, err) < 0 ||
        q2_stream_write_full_blocks(s, err) < 0 || q2_stream_write_counts(s, err) < 0 ||
        q2_stream_sync(s, err) < 0)
        return -1;
    return write_header(s, err);
}

int q2_stream_finish(struct q2_stream *s, struct q2_error *err)
{
    struct q2_error why;
    int result = finish(s, &why);

    if (result < 0)
        return q2_stream_outcome(s, result, &why, err);
    /* A second end would write all of it once more. */
    q2_fail(&why, "it is finished");
    q2_stream_outcome(s, -1, &why, NULL);
    return 0;
}
