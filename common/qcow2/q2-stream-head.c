/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All but the data of an image whose map is known: header, L1 table, refcount table, refcount
 * blocks, L2 tables, in this order, then the data. Each part is made a cluster at a time from the
 * list of extents, so that memory does not grow with the disk. Every host cluster is referred to
 * once.
 */
#include "common/base/cursor.h"
#include "common/qcow2/q2-entry-build.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct head {
    int fd;
    const struct q2_extent_known *extents;
    size_t n;
    bool backing;
    struct q2_header header;
    uint64_t l1_clusters, blocks, table_clusters; /* lengths of the parts, in clusters */
    uint64_t tables, data;
    uint8_t cluster[CLUSTER]; /* that is being made */
};

/* In clusters. */
static uint64_t first_table(const struct head *h)
{
    return 1 + h->l1_clusters + h->table_clusters + h->blocks;
}

static uint64_t first_data(const struct head *h)
{
    return first_table(h) + h->tables;
}

static uint64_t all(const struct head *h)
{
    return first_data(h) + h->data;
}

static bool has_entries(const struct head *h, const struct q2_extent_known *e)
{
    return e->length > 0 && (!e->zero || h->backing);
}

/* ---- the map ---- */

/* Where a walk over the extents is. */
struct walk {
    size_t i;      /* the extent */
    uint64_t from; /* tables below have been told */
};

/* The next table that has entries; false: none. */
static bool next_table(const struct head *h, struct walk *w, uint64_t *table)
{
    for (; w->i < h->n; w->i++) {
        const struct q2_extent_known *e = &h->extents[w->i];
        uint64_t first = e->offset / TABLE_RANGE, last = (e->offset + e->length - 1) / TABLE_RANGE;

        if (!has_entries(h, e) || last < w->from)
            continue;
        *table = first < w->from ? w->from : first;
        w->from = *table + 1;
        return true;
    }
    return false;
}

static int check_extents(const struct head *h, uint64_t size, struct q2_error *err)
{
    uint64_t from = 0;

    for (size_t i = 0; i < h->n; i++) {
        const struct q2_extent_known *e = &h->extents[i];
        uint64_t end = e->offset + e->length;

        if (e->offset < from || end < e->offset || end > size || e->offset % CLUSTER != 0 ||
            (end % CLUSTER != 0 && end != size))
            return q2_fail(err,
                           "%llu bytes at %llu are not clusters of a disk of %llu bytes, behind "
                           "those before",
                           (unsigned long long)e->length, (unsigned long long)e->offset,
                           (unsigned long long)size);
        from = end;
    }
    return 0;
}

/* How long each part is. */
static void lay_out(struct head *h)
{
    struct walk w = {0};
    uint64_t table, before;

    h->l1_clusters = clusters_of(h->header.l1_size * UINT64_C(8));
    while (next_table(h, &w, &table))
        h->tables++;
    for (size_t i = 0; i < h->n; i++)
        if (!h->extents[i].zero)
            h->data += clusters_of(h->extents[i].length);
    do { /* the counts count themselves, too */
        before = all(h);
        h->blocks = before / BLOCK_COUNTS + (before % BLOCK_COUNTS != 0);
        h->table_clusters = clusters_of(h->blocks * 8);
    } while (all(h) != before);
    h->header.refcount_table_offset = (1 + h->l1_clusters) * CLUSTER;
    h->header.refcount_table_clusters = (uint32_t)h->table_clusters;
}

/* ---- the parts ---- */

/* Wait until a descriptor that does not block takes more. */
static void wait_writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    poll(&p, 1, -1); /* where it fails, the next write tells */
}

/* Write the cluster that was made, and begin another one. */
static int put(struct head *h, struct q2_error *err)
{
    for (size_t done = 0; done < CLUSTER;) {
        ssize_t n = write(h->fd, h->cluster + done, CLUSTER - done);

        if (n < 0 && errno == EAGAIN)
            wait_writable(h->fd);
        else if (n < 0 && errno != EINTR)
            return q2_fail_errno(err, errno, "cannot write the head of the image");
        done += n > 0 ? (size_t)n : 0;
    }
    memset(h->cluster, 0, CLUSTER);
    return 0;
}

/* A table of `n` clusters, whose entry `i` points to cluster first + i of the file. */
static int put_row(struct head *h, uint64_t n, uint64_t first, struct q2_error *err)
{
    for (uint64_t i = 0; i < n;) {
        do
            store_be64(h->cluster + i % TABLE_ENTRIES * 8, (first + i) * CLUSTER);
        while (++i < n && i % TABLE_ENTRIES != 0);
        if (put(h, err) < 0)
            return -1;
    }
    return 0;
}

static int put_l1(struct head *h, struct q2_error *err)
{
    struct walk w = {0};
    uint64_t table, host = first_table(h) * CLUSTER;
    bool more = next_table(h, &w, &table);

    for (uint64_t c = 0; c < h->l1_clusters; c++) {
        for (; more && table / TABLE_ENTRIES == c; more = next_table(h, &w, &table)) {
            store_be64(h->cluster + table % TABLE_ENTRIES * 8, q2_entry_counted_once(host));
            host += CLUSTER;
        }
        if (put(h, err) < 0)
            return -1;
    }
    return 0;
}

static int put_blocks(struct head *h, struct q2_error *err)
{
    uint64_t left = all(h);

    while (left > 0) {
        uint64_t n = left < BLOCK_COUNTS ? left : BLOCK_COUNTS;

        for (uint64_t i = 0; i < n; i++)
            store_be16(h->cluster + i * 2, 1);
        if (put(h, err) < 0)
            return -1;
        left -= n;
    }
    return 0;
}

/* The part of an extent that a table maps. *host is where the next cluster with data goes. */
static void fill(struct head *h, const struct q2_extent_known *e, uint64_t table, uint64_t *host)
{
    uint64_t from = table * TABLE_RANGE, to = from + TABLE_RANGE, end = e->offset + e->length;

    for (uint64_t at = e->offset > from ? e->offset : from; at < to && at < end; at += CLUSTER) {
        uint64_t entry = Q2_ENTRY_ZERO;

        if (!e->zero) {
            entry = q2_entry_counted_once(*host);
            *host += CLUSTER;
        }
        store_be64(h->cluster + (at - from) / CLUSTER * 8, entry);
    }
}

static int put_tables(struct head *h, struct q2_error *err)
{
    struct walk w = {0};
    uint64_t table, host = first_data(h) * CLUSTER;
    size_t i = 0;

    while (next_table(h, &w, &table)) {
        uint64_t to = (table + 1) * TABLE_RANGE;

        while (i < h->n && h->extents[i].offset < to) {
            if (has_entries(h, &h->extents[i]))
                fill(h, &h->extents[i], table, &host);
            if (h->extents[i].offset + h->extents[i].length > to)
                break; /* the rest of it is another table's */
            i++;
        }
        if (put(h, err) < 0)
            return -1;
    }
    return 0;
}

static int put_all(struct head *h, struct q2_error *err)
{
    if (q2_header_build(&h->header, h->cluster, CLUSTER, err) < 0 || put(h, err) < 0 ||
        put_l1(h, err) < 0 || put_row(h, h->blocks, first_table(h) - h->blocks, err) < 0 ||
        put_blocks(h, err) < 0)
        return -1;
    return put_tables(h, err);
}

int q2_stream_head_check(const struct q2_stream_options *o, struct q2_error *err)
{
    struct q2_header header;

    return q2_stream_header(o, &header, err);
}

int q2_stream_head(int fd, const struct q2_stream_options *o, const struct q2_extent_known *extents,
                   size_t n, struct q2_error *err)
{
    struct head *h = calloc(1, sizeof *h);
    int result;

    if (!h)
        return q2_fail_errno(err, ENOMEM, "no memory for the head of an image");
    h->fd = fd;
    h->extents = extents;
    h->n = n;
    result = q2_stream_header(o, &h->header, err);
    if (result == 0 && o->compress)
        result = q2_fail(err, "an image whose head comes first cannot be compressed");
    if (result == 0)
        result = check_extents(h, o->size, err);
    if (result == 0) {
        h->backing = h->header.backing[0];
        lay_out(h);
        result = put_all(h, err);
    }
    free(h);
    return result;
}
