/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-refcount.h"
#include "common/qcow2/q2-repair-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_MAX    (UINT64_C(8) << 20) /* bytes of the table, as readers take it */
#define TABLE_OFFSET (~UINT64_C(511))

static uint64_t cluster_bytes(const struct q2_repair *r)
{
    return UINT64_C(1) << r->image->geometry.cluster_bits;
}

static uint64_t block_counts(const struct q2_repair *r)
{
    return q2_refcount_block_counts(r->image->geometry.cluster_bits,
                                    r->image->header.refcount_order);
}

static int no_memory(const struct q2_repair *r)
{
    return q2_fail_errno(r->err, ENOMEM, "Cannot repair '%s'", r->image->file.path);
}

/* ---- in place ---- */

/* Lower the counts of one block, whose first is of the cluster `first`. */
static int lower_block(struct q2_repair *r, uint8_t *block, uint64_t host, uint64_t first)
{
    unsigned order = r->image->header.refcount_order;
    bool changed = false;

    if (q2_file_pread(&r->image->file, block, cluster_bytes(r), host, r->err) < 0)
        return -1;
    for (uint64_t i = 0; i < block_counts(r) && first + i < r->used->clusters; i++) {
        uint64_t used = q2_counts_get(r->used, first + i);

        if (q2_refcount_get(block, order, i) > used) {
            q2_refcount_put(block, order, i, used);
            changed = true;
        }
    }
    return changed ? q2_repair_write(r, block, cluster_bytes(r), host) : 0;
}

int q2_repair_lower(struct q2_repair *r)
{
    const struct q2_header *h = &r->image->header;
    uint64_t n = ((uint64_t)h->refcount_table_clusters << h->cluster_bits) / 8;
    uint8_t *block = malloc(cluster_bytes(r)), word[8];
    int result = block ? 0 : no_memory(r);

    for (uint64_t i = 0; result == 0 && i < n && i * block_counts(r) < r->used->clusters; i++) {
        uint64_t host;

        result = q2_file_pread(&r->image->file, word, 8, h->refcount_table_offset + i * 8, r->err);
        host = load_be64(word) & TABLE_OFFSET;
        if (result == 0 && host)
            result = lower_block(r, block, host, i * block_counts(r));
    }
    free(block);
    return result;
}

/* ---- anew ---- */

/* New counts: a table, and behind it its blocks, from cluster `first` on. */
struct layout {
    uint64_t first, table, blocks; /* clusters */
    uint64_t entries;              /* of the table */
    uint8_t *needed;               /* a byte for each entry: there is a block; TABLE_MAX / 8 */
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static int too_long(const struct q2_repair *r)
{
    return q2_fail(
        r->err,
        "'%s' cannot be repaired: it is too long, and the table of its counts would have "
        "more than %llu bytes",
        r->image->file.path, (unsigned long long)TABLE_MAX);
}

/* Mark the blocks for what is used as it was found. */
static int mark_used(const struct q2_repair *r, struct layout *l)
{
    uint64_t per_block = block_counts(r), cluster = 0;
    unsigned order = r->image->header.refcount_order;

    for (; (cluster = q2_counts_skip(r->used, cluster)) < r->used->clusters; cluster++) {
        uint64_t used = q2_counts_get(r->used, cluster);

        if (used > q2_refcount_max(order))
            return q2_fail(r->err,
                           "'%s' cannot be repaired: the cluster at %llu is used %llu times, for "
                           "which counts of %u bits have no room",
                           r->image->file.path, (unsigned long long)(cluster * cluster_bytes(r)),
                           (unsigned long long)used, 1U << order);
        l->needed[cluster / per_block] = used > 0 || l->needed[cluster / per_block];
    }
    return 0;
}

/* Blocks that are needed, with those for the new counts themselves. */
static uint64_t count_blocks(const struct q2_repair *r, const struct layout *l)
{
    uint64_t n = 0;

    for (uint64_t b = 0; b < l->entries; b++)
        n += l->needed[b] || b >= l->first / block_counts(r);
    return n;
}

/* Look for the least that suffices: more of one needs more of the other. */
static int lay_out(const struct q2_repair *r, struct layout *l)
{
    uint64_t before;

    l->first = r->used->clusters;
    if (l->first / block_counts(r) >= TABLE_MAX / 8)
        return too_long(r);
    if (mark_used(r, l) < 0)
        return -1;
    l->table = 1;
    do {
        before = l->table + l->blocks;
        l->entries = divide_up(l->first + before, block_counts(r));
        if (l->entries > TABLE_MAX / 8)
            return too_long(r);
        l->table = divide_up(l->entries * 8, cluster_bytes(r));
        l->blocks = count_blocks(r, l);
    } while (l->table + l->blocks != before);
    for (uint64_t b = l->first / block_counts(r); b < l->entries; b++)
        l->needed[b] = 1;
    return 0;
}

static void fill_block(const struct q2_repair *r, const struct layout *l, uint8_t *block,
                       uint64_t index)
{
    uint64_t first = index * block_counts(r), end = l->first + l->table + l->blocks;

    memset(block, 0, cluster_bytes(r));
    for (uint64_t i = 0; i < block_counts(r) && first + i < end; i++)
        q2_refcount_put(block, r->image->header.refcount_order, i,
                        first + i < l->first ? q2_counts_get(r->used, first + i) : 1);
}

/* `table` has l->table clusters, of zeroes, `block` one. */
static int write_counts(struct q2_repair *r, const struct layout *l, uint8_t *table, uint8_t *block)
{
    uint64_t host = (l->first + l->table) * cluster_bytes(r);

    for (uint64_t b = 0; b < l->entries; b++) {
        if (!l->needed[b])
            continue;
        fill_block(r, l, block, b);
        if (q2_repair_write(r, block, cluster_bytes(r), host) < 0)
            return -1;
        store_be64(table + b * 8, host);
        host += cluster_bytes(r);
    }
    if (q2_repair_write(r, table, l->table * cluster_bytes(r), l->first * cluster_bytes(r)) < 0)
        return -1;
    r->image->file.size = host;
    return q2_repair_sync(r);
}

/* Offset and length of the table are in one sector: both are the old ones, or the new ones. */
static int switch_table(struct q2_repair *r, const struct layout *l)
{
    struct q2_header *h = &r->image->header;
    uint8_t fields[12];

    h->refcount_table_offset = l->first * cluster_bytes(r);
    h->refcount_table_clusters = (uint32_t)l->table;
    store_be64(fields, h->refcount_table_offset);
    store_be32(fields + 8, h->refcount_table_clusters);
    if (q2_repair_write(r, fields, sizeof(fields), 48) < 0)
        return -1;
    return q2_repair_sync(r);
}

static int write_anew(struct q2_repair *r, const struct layout *l)
{
    uint8_t *table = calloc(l->table, cluster_bytes(r)), *block = malloc(cluster_bytes(r));
    int result = table && block ? write_counts(r, l, table, block) : no_memory(r);

    free(table);
    free(block);
    return result == 0 ? switch_table(r, l) : -1;
}

int q2_repair_rebuild(struct q2_repair *r)
{
    struct layout l = {.needed = calloc(TABLE_MAX / 8, 1)};
    int result = l.needed ? lay_out(r, &l) : no_memory(r);

    if (result == 0)
        result = write_anew(r, &l);
    free(l.needed);
    return result;
}
