/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The space of the file, and its counts.
 *
 * Compressed clusters are packed byte by byte. The newest host cluster that has some is kept as the
 * pack: the next ones go there as long as they fit. One that does not fit continues into the next host
 * cluster if that follows directly, because nothing else was taken meanwhile; else a new pack
 * begins at the end of the file, and what is left of the old one is a gap.
 *
 * A count is final when its host cluster lies below `next` and is not the pack.
 */
#include "common/base/cursor.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <stdlib.h>

/* What a refcount table of 8 MiB, the longest that readers take, counts. */
#define FILE_MOST ((UINT64_C(8) << 20) / 8 * BLOCK_RANGE)

static uint64_t next_of(const struct q2_space *p)
{
    return atomic_load_explicit(&p->next, memory_order_relaxed);
}

static void set_next(struct q2_space *p, uint64_t next)
{
    atomic_store_explicit(&p->next, next, memory_order_relaxed);
}

/* Have counts for `bytes` more. */
static int reserve(struct q2_space *p, uint64_t bytes, struct q2_error *err)
{
    uint64_t end = next_of(p) + bytes;
    size_t need = (size_t)(end / BLOCK_RANGE) + 1;
    uint8_t **more;

    if (end > FILE_MOST)
        return q2_fail(err, "the file would be longer than a qcow2 file can be");
    if (need > p->n_blocks) {
        more = realloc(p->blocks, need * sizeof *more);
        if (!more)
            return q2_fail_errno(err, ENOMEM, "no memory for counts of clusters");
        p->blocks = more;
    }
    while (p->n_blocks < need) {
        p->blocks[p->n_blocks] = calloc(1, CLUSTER);
        if (!p->blocks[p->n_blocks])
            return q2_fail_errno(err, ENOMEM, "no memory for counts of clusters");
        p->n_blocks++;
    }
    return 0;
}

/* Refer to each host cluster that the bytes touch once more. At most 65536 / 9 compressed clusters
 * touch one, because none is shorter than the frame around it: a count does not overflow. */
static void count(struct q2_space *p, uint64_t host, uint64_t length)
{
    for (uint64_t c = host / CLUSTER; c <= (host + length - 1) / CLUSTER; c++) {
        uint8_t *at = p->blocks[c / BLOCK_COUNTS] + c % BLOCK_COUNTS * 2;

        store_be16(at, (uint16_t)(load_be16(at) + 1));
    }
}

/* Clusters for which counts are reserved. */
static uint64_t append(struct q2_space *p, uint64_t n)
{
    uint64_t host = next_of(p);

    if (n > 0)
        count(p, host, n * CLUSTER);
    set_next(p, host + n * CLUSTER);
    return host;
}

int q2_space_take(struct q2_space *p, uint64_t n, uint64_t *host, struct q2_error *err)
{
    if (reserve(p, n * CLUSTER, err) < 0)
        return -1;
    *host = append(p, n);
    return 0;
}

struct q2_gap q2_space_close_pack(struct q2_space *p)
{
    struct q2_gap gap = {p->pack, p->pack_end - p->pack};

    p->pack = p->pack_end;
    return gap;
}

static void pack(struct q2_space *p, struct q2_cluster *c)
{
    c->host = p->pack;
    count(p, c->host, c->length);
    p->pack += c->length;
}

/* Put compressed clusters from `i` on into the pack, until one does not fit: its number, or n. */
static size_t fill(struct q2_space *p, struct q2_cluster *clusters, size_t i, size_t n)
{
    for (; i < n; i++) {
        if (clusters[i].kind != Q2_COMPRESSED)
            continue;
        if (clusters[i].length > p->pack_end - p->pack)
            break;
        pack(p, &clusters[i]);
    }
    return i;
}

/* Make the pack as long as `length` more bytes need: in place where it can be, else behind all. */
static struct q2_gap extend_pack(struct q2_space *p, uint64_t length)
{
    struct q2_gap gap = {0};

    if (p->pack_end != next_of(p)) {
        gap = q2_space_close_pack(p);
        p->pack = next_of(p);
    }
    p->pack_end = clusters_of(p->pack + length) * CLUSTER;
    set_next(p, p->pack_end);
    return gap;
}

int q2_space_place(struct q2_space *p, struct q2_cluster *clusters, size_t n, size_t *behind,
                   struct q2_gap *gap, struct q2_error *err)
{
    uint64_t length = 0;

    *gap = (struct q2_gap){0};
    /* More than they need: each has a whole one, and the pack one more. */
    if (reserve(p, (n + 1) * CLUSTER, err) < 0)
        return -1;
    *behind = fill(p, clusters, 0, n);
    for (size_t i = 0; i < n; i++)
        if (clusters[i].kind == Q2_DATA)
            clusters[i].host = append(p, 1);
    for (size_t i = *behind; i < n; i++)
        if (clusters[i].kind == Q2_COMPRESSED)
            length += clusters[i].length;
    if (length > 0) {
        *gap = extend_pack(p, length);
        fill(p, clusters, *behind, n);
    }
    return 0;
}

uint8_t *q2_space_next_block(struct q2_space *p, size_t *number)
{
    uint64_t final = p->pack < p->pack_end ? p->pack : next_of(p);
    uint8_t *block;

    if (p->first_block >= p->n_blocks || (p->first_block + 1) * BLOCK_RANGE > final)
        return NULL;
    *number = p->first_block++;
    block = p->blocks[*number];
    p->blocks[*number] = NULL;
    return block;
}

void q2_space_free(struct q2_space *p)
{
    for (size_t i = 0; i < p->n_blocks; i++)
        free(p->blocks[i]);
    free(p->blocks);
}
