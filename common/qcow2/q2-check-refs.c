/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/qcow2/q2-check-private.h"
#include "common/qcow2/q2-refcount.h"

#include <stdarg.h>
#include <stdio.h>

#define TABLE_OFFSET (~UINT64_C(511)) /* of an entry in the table of reference counts */

/* A number of c->uses: enum q2_use, and above it the L1 table. There are fewer than 2^17 of these. */
enum { USE_BITS = 3, USE_MASK = 7 };

int q2_check_watch(struct q2_check *c)
{
    return c->watch && c->watch(c->opaque) != 0 ? q2_fail(c->err, "the check was stopped") : 0;
}

/* One more corruption, as the arguments say. */
static void found(struct q2_check *c, struct q2_error *first, const char *format, va_list args)
{
    char text[512];

    vsnprintf(text, sizeof(text), format, args);
    q2_fail(first, "'%s' is damaged: %s", c->image->file.path, text);
    if (c->corruptions++ == 0)
        c->first = *first;
}

void q2_check_corrupt(struct q2_check *c, const char *format, ...)
{
    struct q2_error here;
    va_list args;

    va_start(args, format);
    found(c, c->fatal.text[0] ? &here : &c->fatal, format, args);
    va_end(args);
}

void q2_check_mendable(struct q2_check *c, enum q2_mendable kind, const char *format, ...)
{
    struct q2_error here;
    va_list args;

    va_start(args, format);
    found(c, &here, format, args);
    va_end(args);
    c->mendable[kind]++;
}

/* The file's end may cut its last cluster. */
static bool ends_in_file(const struct q2_check *c, uint64_t offset, uint64_t length)
{
    uint64_t size = c->image->file.size, end;

    return !__builtin_add_overflow(offset, length, &end) &&
           (end <= size || end - size < UINT64_C(1) << c->image->geometry.cluster_bits);
}

/* Whether what was found to use a cluster, up to now, lets it be used for this, too. */
static bool goes_with(const struct q2_check *c, uint32_t before, enum q2_use use)
{
    if (!before)
        return true;
    return (before & USE_MASK) == use && use != Q2_USE_ALONE &&
           (use != Q2_USE_DATA || before >> USE_BITS != c->walk);
}

static int use_cluster(struct q2_check *c, enum q2_use use, uint64_t number, const char *what)
{
    if (q2_counts_add(&c->counts, number, c->err) < 0)
        return -1;
    if (goes_with(c, q2_counts_get(&c->uses, number), use))
        return q2_counts_set(&c->uses, number, c->walk << USE_BITS | use, c->err);
    if (c->overlaps++ == 0)
        q2_fail(&c->overlap, "'%s' is damaged: %s, at %llu, lies where something else is",
                c->image->file.path, what,
                (unsigned long long)(number << c->image->geometry.cluster_bits));
    return 0;
}

int q2_check_use(struct q2_check *c, enum q2_use use, uint64_t offset, uint64_t length,
                 const char *what)
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
        if (i < c->counts.clusters && use_cluster(c, use, i, what) < 0)
            return -1;
    return 0;
}

int q2_check_use_table(struct q2_check *c, uint64_t offset, uint64_t length, const char *what,
                       bool *alone)
{
    if (q2_check_use(c, Q2_USE_ALONE, offset, length, what) < 0)
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
        q2_check_mendable(c, Q2_WRONG_COUNTS,
                          "entry %llu of the table of reference counts has reserved bits",
                          (unsigned long long)index);
    if (!can_be_block(c, host)) {
        q2_check_mendable(c, Q2_WRONG_COUNTS,
                          "block %llu of reference counts is at %llu, where none can be",
                          (unsigned long long)index, (unsigned long long)host);
        return 0;
    }
    return host
               ? q2_check_use(c, Q2_USE_ALONE, host, UINT64_C(1) << c->image->geometry.cluster_bits,
                              "a block of reference counts")
               : 0;
}

int q2_check_ref_blocks(struct q2_check *c)
{
    const struct q2_image *image = c->image;
    uint64_t n = blocks_of_table(image), word;

    if (q2_check_use(c, Q2_USE_ALONE, image->header.refcount_table_offset, n * 8,
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
        q2_check_mendable(c, Q2_WRONG_COUNTS,
                          "the cluster at %llu is used %llu times, and counted %llu times",
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
