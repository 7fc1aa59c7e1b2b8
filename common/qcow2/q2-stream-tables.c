/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * L1 and L2 tables. An L2 table is in memory from its first entry until it is closed, when it goes
 * into the file.
 *
 * A table of nothing but zero clusters is not written by itself: as much of a disk may have been
 * zeroed, all of these are one table, to which many L1 entries point; its count is their number,
 * and they are not COPIED, so that who changes one makes a copy first.
 */
#include "common/base/cursor.h"
#include "common/qcow2/q2-entry-build.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64 /* tables that are written at once */

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

/* A whole table of zero clusters, of which none has come in another way. Needs the lock. */
static bool set_all_zero(struct q2_stream *s, uint64_t offset, uint64_t length)
{
    uint64_t i = offset / TABLE_RANGE;

    if (offset % TABLE_RANGE != 0 || length < TABLE_RANGE || i < s->first_open || s->l1[i] != 0 ||
        s->tables[i])
        return false;
    s->l1[i] = L1_ALL_ZERO;
    return true;
}

int q2_stream_set_zero(struct q2_stream *s, uint64_t offset, uint64_t length, struct q2_error *err)
{
    int result = 0;

    pthread_mutex_lock(&s->lock);
    while (length > 0 && result == 0) {
        uint64_t step = CLUSTER;

        if (set_all_zero(s, offset, length))
            step = TABLE_RANGE;
        else
            result = q2_stream_set(s, offset, Q2_ENTRY_ZERO, err);
        offset += step;
        length -= step < length ? step : length;
    }
    pthread_mutex_unlock(&s->lock);
    return result;
}

static bool is_all_zero(const uint8_t *table)
{
    return load_be64(table) == Q2_ENTRY_ZERO && memcmp(table, table + 8, CLUSTER - 8) == 0;
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
        if (is_all_zero(table)) {
            s->l1[i] = L1_ALL_ZERO;
            free(table);
            continue;
        }
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

/* ---- the tables that are shared, and L1: when all else is done, by one thread ---- */

static uint64_t count_all_zero(const struct q2_stream *s)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < s->l1_entries; i++)
        n += s->l1[i] == L1_ALL_ZERO;
    return n;
}

/* Let the next `times` of the L1 entries that are marked, from *i on, point to `entry`. */
static void point_to(struct q2_stream *s, uint64_t *i, uint64_t times, uint64_t entry)
{
    for (; times > 0; (*i)++)
        if (s->l1[*i] == L1_ALL_ZERO) {
            s->l1[*i] = entry;
            times--;
        }
}

static int write_shared(struct q2_stream *s, struct q2_error *err)
{
    uint64_t left = count_all_zero(s), i = 0, host;
    uint8_t *table = left > 0 ? malloc(CLUSTER) : NULL;
    struct iovec iov = {table, CLUSTER};
    int result = 0;

    if (left > 0 && !table)
        return q2_fail_errno(err, ENOMEM, "no memory for a table of clusters");
    for (size_t e = 0; table && e < TABLE_ENTRIES; e++)
        store_be64(table + e * 8, Q2_ENTRY_ZERO);
    while (left > 0 && result == 0) {
        uint16_t times = (uint16_t)(left < UINT16_MAX ? left : UINT16_MAX);

        result = q2_space_take_shared(&s->space, times, &host, err);
        if (result == 0)
            result = q2_stream_put(s, host, &iov, 1, err);
        if (result == 0)
            point_to(s, &i, times, times == 1 ? q2_entry_counted_once(host) : host);
        left -= times;
    }
    free(table);
    return result;
}

int q2_stream_write_l1(struct q2_stream *s, struct q2_error *err)
{
    struct iovec iov = {NULL, s->l1_clusters * CLUSTER};
    uint8_t *table;
    int result;

    if (write_shared(s, err) < 0)
        return -1;
    table = calloc(1, iov.iov_len);
    if (!table)
        return q2_fail_errno(err, ENOMEM, "no memory for the L1 table");
    for (uint64_t i = 0; i < s->l1_entries; i++)
        store_be64(table + i * 8, s->l1[i]);
    iov.iov_base = table;
    result = q2_stream_put(s, s->header.l1_offset, &iov, 1, err);
    free(table);
    return result;
}
