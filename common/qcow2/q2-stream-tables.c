/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * L1 and L2 tables. An L2 table is in memory from its first entry until it is closed, when it goes
 * into the file.
 */
#include "common/base/cursor.h"
#include "common/qcow2/q2-entry-build.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64 /* tables that are written at once */

int q2_stream_tables_init(struct q2_stream *s, struct q2_error *err)
{
    s->l1 = calloc(s->l1_entries, sizeof *s->l1);
    s->tables = calloc(s->l1_entries, sizeof *s->tables);
    return s->l1 && s->tables ? 0 : q2_fail_errno(err, ENOMEM, "no memory for tables");
}

void q2_stream_tables_free(struct q2_stream *s)
{
    for (uint64_t i = 0; s->tables && i < s->l1_entries; i++)
        free(s->tables[i]);
    free(s->tables);
    free(s->l1);
}

/* The table that maps this offset, made if there is none. Needs the lock. */
static uint8_t *table_at(struct q2_stream *s, uint64_t offset, struct q2_error *err)
{
    uint64_t i = offset / TABLE_RANGE;

    if (i < s->first_open || s->l1[i] != 0) {
        q2_fail(err, "the cluster at %llu of the disk comes too late: its table is closed",
                (unsigned long long)offset);
        return NULL;
    }
    if (!s->tables[i])
        s->tables[i] = calloc(1, CLUSTER);
    if (!s->tables[i])
        q2_fail_errno(err, ENOMEM, "no memory for a table of clusters");
    return s->tables[i];
}

int q2_stream_set(struct q2_stream *s, uint64_t offset, uint64_t entry, struct q2_error *err)
{
    uint8_t *table = table_at(s, offset, err), *at;

    if (!table)
        return -1;
    at = table + offset % TABLE_RANGE / CLUSTER * 8;
    if (load_be64(at) != 0)
        return q2_fail(err, "the cluster at %llu of the disk comes twice",
                       (unsigned long long)offset);
    store_be64(at, entry);
    return 0;
}

int q2_stream_set_zero(struct q2_stream *s, uint64_t offset, uint64_t length, struct q2_error *err)
{
    uint64_t end = offset + length;
    int result = 0;

    pthread_mutex_lock(&s->lock);
    for (; offset < end && result == 0; offset += CLUSTER)
        result = q2_stream_set(s, offset, Q2_ENTRY_ZERO, err);
    pthread_mutex_unlock(&s->lock);
    return result;
}

/* Tables on their way into the file. */
struct batch {
    uint8_t *tables[BATCH];
    uint64_t numbers[BATCH];
    size_t n;
};

/* Take the next tables below `upto`, and close them. Needs the lock. */
static void take_tables(struct q2_stream *s, uint64_t upto, struct batch *b)
{
    for (b->n = 0; s->first_open < upto && b->n < BATCH; s->first_open++) {
        uint64_t i = s->first_open;
        uint8_t *table = s->tables[i];

        if (!table)
            continue;
        s->tables[i] = NULL;
        b->tables[b->n] = table;
        b->numbers[b->n++] = i;
    }
}

/* Give the tables of a batch their places. */
static int place_tables(struct q2_stream *s, const struct batch *b, uint64_t *host,
                        struct q2_error *err)
{
    if (q2_space_take(&s->space, b->n, host, err) < 0)
        return -1;
    for (size_t i = 0; i < b->n; i++)
        s->l1[b->numbers[i]] = q2_entry_counted_once(*host + i * CLUSTER);
    return 0;
}

static int write_tables(struct q2_stream *s, struct batch *b, uint64_t host, struct q2_error *err)
{
    struct iovec iov[BATCH];

    for (size_t i = 0; i < b->n; i++)
        iov[i] = (struct iovec){b->tables[i], CLUSTER};
    return q2_stream_put(s, host, iov, b->n, err);
}

int q2_stream_close_tables(struct q2_stream *s, uint64_t upto, struct q2_error *err)
{
    struct batch b;
    int result;

    do {
        uint64_t host = 0;

        pthread_mutex_lock(&s->lock);
        take_tables(s, upto, &b);
        result = place_tables(s, &b, &host, err);
        pthread_mutex_unlock(&s->lock);
        if (result == 0 && b.n > 0)
            result = write_tables(s, &b, host, err);
        for (size_t i = 0; i < b.n; i++)
            free(b.tables[i]);
    } while (result == 0 && b.n == BATCH);
    return result;
}

int q2_stream_write_l1(struct q2_stream *s, struct q2_error *err)
{
    uint8_t *table = calloc(s->l1_clusters, CLUSTER);
    struct iovec iov = {table, s->l1_clusters * CLUSTER};
    int result;

    if (!table)
        return q2_fail_errno(err, ENOMEM, "no memory for the L1 table");
    for (uint64_t i = 0; i < s->l1_entries; i++)
        store_be64(table + i * 8, s->l1[i]);
    result = q2_stream_put(s, s->header.l1_offset, &iov, 1, err);
    free(table);
    return result;
}
