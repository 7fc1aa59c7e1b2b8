/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Refcount blocks and the table of them. A block is written when the file has grown past what it
 * counts, so that memory holds one or two of them. The last ones and the table come at the end,
 * together, and count themselves, too.
 */
#include "common/base/cursor.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <stdlib.h>

static int remember(struct q2_stream *s, size_t number, uint64_t host, struct q2_error *err)
{
    uint64_t *more;

    if (number >= s->n_blocks) {
        more = realloc(s->blocks, (number + 1) * sizeof *more);
        if (!more)
            return q2_fail_errno(err, ENOMEM, "no memory for the refcount table");
        s->blocks = more;
        s->n_blocks = number + 1;
    }
    s->blocks[number] = host;
    return 0;
}

/* The next full block and its place; NULL: there is none. */
static int next_full(struct q2_stream *s, uint8_t **block, size_t *number, uint64_t *host,
                     struct q2_gap *gap, struct q2_error *err)
{
    struct q2_space *p = &s->space;
    int result = 0;

    *gap = (struct q2_gap){0};
    pthread_mutex_lock(&s->lock);
    /* A pack that nothing has come into for long holds up the blocks behind it. */
    if (p->next - p->pack > 2 * BLOCK_RANGE)
        *gap = q2_space_close_pack(p);
    *block = q2_space_next_block(p, number);
    if (*block)
        result = q2_space_take(p, 1, host, err);
    pthread_mutex_unlock(&s->lock);
    return result;
}

int q2_stream_write_full_blocks(struct q2_stream *s, struct q2_error *err)
{
    struct iovec iov = {NULL, CLUSTER};
    uint8_t *block;
    int result;

    do {
        struct q2_gap gap;
        uint64_t host = 0;
        size_t number = 0;

        result = next_full(s, &block, &number, &host, &gap, err);
        iov.iov_base = block;
        if (result == 0)
            result = q2_stream_leave(s, &gap, err);
        if (result == 0 && block)
            result = q2_stream_put(s, host, &iov, 1, err);
        if (result == 0 && block)
            result = remember(s, number, host, err);
        free(block);
    } while (result == 0 && block);
    return result;
}

/* How many blocks are to be written, and how many clusters the table of all has. */
struct rest {
    uint64_t blocks, table;
};

/* Blocks and table lie behind all that they count, and are counted, too: look for the least number
 * that suffices. */
static struct rest rest_of(const struct q2_stream *s)
{
    uint64_t used = s->space.next / CLUSTER, written = s->space.first_block;
    struct rest r = {0, 1};

    for (;;) {
        uint64_t end = used + r.blocks + r.table;
        uint64_t all = end / BLOCK_COUNTS + (end % BLOCK_COUNTS != 0);
        struct rest more = {all - written, clusters_of(all * 8)};

        if (more.blocks == r.blocks && more.table == r.table)
            return r;
        r = more;
    }
}

/* Write the table behind the blocks. */
static int write_table(struct q2_stream *s, uint64_t host, uint64_t clusters, struct q2_error *err)
{
    struct iovec iov = {calloc(clusters, CLUSTER), clusters * CLUSTER};
    int result;

    if (!iov.iov_base)
        return q2_fail_errno(err, ENOMEM, "no memory for the refcount table");
    for (size_t i = 0; i < s->n_blocks; i++)
        store_be64((uint8_t *)iov.iov_base + i * 8, s->blocks[i]);
    result = q2_stream_put(s, host, &iov, 1, err);
    free(iov.iov_base);
    s->header.refcount_table_offset = host;
    s->header.refcount_table_clusters = (uint32_t)clusters;
    return result;
}

int q2_stream_write_counts(struct q2_stream *s, struct q2_error *err)
{
    struct q2_gap gap = q2_space_close_pack(&s->space);
    struct rest r = rest_of(s);
    size_t first = s->space.first_block;
    uint64_t host;

    if (q2_stream_leave(s, &gap, err) < 0 ||
        q2_space_take(&s->space, r.blocks + r.table, &host, err) < 0)
        return -1;
    for (uint64_t i = 0; i < r.blocks; i++) {
        struct iovec iov = {s->space.blocks[first + i], CLUSTER};

        if (q2_stream_put(s, host + i * CLUSTER, &iov, 1, err) < 0 ||
            remember(s, (size_t)(first + i), host + i * CLUSTER, err) < 0)
            return -1;
    }
    return write_table(s, host + r.blocks * CLUSTER, r.table, err);
}
