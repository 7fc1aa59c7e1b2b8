/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/qcow2/q2-check-private.h"
#include "common/qcow2/q2-refcount.h"

#include <stdarg.h>
#include <stdio.h>

#define TABLE_OFFSET (~UINT64_C(511)) /* of an entry in the table of reference counts */

int q2_check_watch(struct q2_check *c)
{
    return c->watch && c->watch(c->opaque) != 0 ? q2_fail(c->err, "the check was stopped") : 0;
}

void q2_check_corrupt(struct q2_check *c, const char *format, ...)
{
    char text[512];
    va_list args;

    if (c->corruptions++ > 0)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    q2_fail(&c->first, "'%s' is damaged: %s", c->image->file.path, text);
}

/* The file's end may cut its last cluster. */
static bool ends_in_file(const struct q2_check *c, uint64_t offset, uint64_t length)
{
    uint64_t size = c->image->file.size, end;

    return !__builtin_add_overflow(offset, length, &end) &&
           (end <= size || end - size < UINT64_C(1) << c->image->geometry.cluster_bits);
}

int q2_check_use(struct q2_check *c, uint64_t offset, uint64_t length, const char *what)
{
    unsigned bits = c->image->geometry.cluster_bits;

    if (length == 0)
        return 0;
    if (!ends_in_file(c, offset, length)) {
        q2_check_corrupt(c, "%s, at %llu, lies behind the end of the file", what,
                         (unsigned long long)offset);
        return 0;
    }
    for (uint64_t i = offset >> bits; i <= (offset + length - 1) >> bits; i++)
        if (i < c->counts.clusters && q2_counts_add(&c->counts, i, c->err) < 0)
            return -1;
    return 0;
}

int q2_check_use_table(struct q2_check *c, uint64_t offset, uint64_t length, const char *what,
                       bool *alone)
{
    if (q2_check_use(c, offset, length, what) < 0)
        return -1;
    *alone = q2_counts_get(&c->counts, offset >> c->image->geometry.cluster_bits) <= 1;
    if (!*alone)
        q2_check_corrupt(c, "%s, at %llu, lies where something else is", what,
                         (unsigned long long)offset);
    return 0;
}

static uint64_t blocks_of_table(const struct q2_image *image)
{
    return ((uint64_t)image->header.refcount_table_clusters << image->geometry.cluster_bits) / 8;
}

static uint64_t counts_of_block(const struct q2_image *image)
{
    return q2_refcount_block_counts(image->geometry.cluster_bits, image->header.refcount_order);
}

static int table_entry(struct q2_check *c, uint64_t index, uint64_t *word)
{
    const uint8_t *at =
        q2_slices_get(&c->refcounts, c->image->header.refcount_table_offset + index * 8, c->err);

    if (!at)
        return -1;
    *word = load_be64(at);
    return 0;
}

static bool can_be_block(const struct q2_check *c, uint64_t host)
{
    uint64_t cluster = UINT64_C(1) << c->image->geometry.cluster_bits;

    return !(host & (cluster - 1)) && host < c->image->file.size;
}

int q2_check_ref_block(struct q2_check *c, uint64_t index, uint64_t *host)
{
    uint64_t word = 0;

    if (index < blocks_of_table(c->image) && table_entry(c, index, &word) < 0)
        return -1;
    *host = word & TABLE_OFFSET;
    if (!can_be_block(c, *host))
        *host = 0;
    return 0;
}

int q2_check_stored(struct q2_check *c, uint64_t cluster, uint64_t *count)
{
    uint64_t per_block = counts_of_block(c->image), host, bit;
    unsigned order = c->image->header.refcount_order;
    const uint8_t *at;

    *count = 0;
    if (q2_check_ref_block(c, cluster / per_block, &host) < 0)
        return -1;
    if (!host)
        return 0;
    bit = cluster % per_block << order;
    at = q2_slices_get(&c->refcounts, host + bit / 8, c->err);
    if (!at)
        return -1;
    *count = q2_refcount_get(at, order, order < 3 ? bit % 8 >> order : 0);
    return 0;
}

static int use_block(struct q2_check *c, uint64_t index, uint64_t word)
{
    uint64_t host = word & TABLE_OFFSET;

    if (word & ~TABLE_OFFSET)
        q2_check_corrupt(c, "entry %llu of the table of reference counts has reserved bits",
                         (unsigned long long)index);
    if (!can_be_block(c, host)) {
        q2_check_corrupt(c, "block %llu of reference counts is at %llu, where none can be",
                         (unsigned long long)index, (unsigned long long)host);
        return 0;
    }
    return host ? q2_check_use(c, host, UINT64_C(1) << c->image->geometry.cluster_bits,
                               "a block of reference counts")
                : 0;
}

int q2_check_ref_blocks(struct q2_check *c)
{
    const struct q2_image *image = c->image;
    uint64_t n = blocks_of_table(image), word;

    if (q2_check_use(c, image->header.refcount_table_offset, n * 8,
                     "the table of reference counts") < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++)
        if (table_entry(c, i, &word) < 0 || use_block(c, i, word) < 0)
            return -1;
    return 0;
}

static int compare_cluster(struct q2_check *c, uint64_t cluster)
{
    uint64_t used = q2_counts_get(&c->counts, cluster), stored;

    if (q2_check_stored(c, cluster, &stored) < 0)
        return -1;
    if (stored > used)
        c->leaks++;
    else if (stored < used)
        q2_check_corrupt(c, "the cluster at %llu is used %llu times, and counted %llu times",
                         (unsigned long long)cluster << c->image->geometry.cluster_bits,
                         (unsigned long long)used, (unsigned long long)stored);
    return 0;
}

int q2_check_compare(struct q2_check *c)
{
    uint64_t per_block = counts_of_block(c->image), cluster = 0, host;

    while (cluster < c->counts.clusters) {
        uint64_t end = (cluster / per_block + 1) * per_block;

        if (q2_check_watch(c) < 0 || q2_check_ref_block(c, cluster / per_block, &host) < 0)
            return -1;
        if (end > c->counts.clusters)
            end = c->counts.clusters;
        for (; cluster < end; cluster++) {
            if (!host && (cluster = q2_counts_skip(&c->counts, cluster)) >= end)
                break;
            if (compare_cluster(c, cluster) < 0)
                return -1;
        }
    }
    return 0;
}
