/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a batch does to the file, in this order, each step durable before the next:
 *
 *   1. the file is made longer;
 *   2. counts of all its clusters are set to 1, in blocks that the table has, and in blocks that it has not
 *      yet, which lie in the batch;
 *   3. the table refers to the new blocks; or a longer table, which lies in the batch, does, and the header
 *      switches to that;
 *   4. clusters of the old table are counted down.
 *
 * Until 3 nothing refers to what is new. While 3 goes on, one sector of the table after another, some of the
 * new blocks are referred to: always those of the lowest numbers. The block that counts the place of one of them is
 * not higher than that one itself: places follow each other from `first` on, one for each block,
 * and a block counts at least 64. So each block that is referred to is counted by one that is, too.
 *
 * A step that failed may have reached the medium or not. All of them can be done again with the same values,
 * and with no others: a place that may hold a block must never be taken for data, because it is not all
 * zeroes.
 */
#include "common/live/live-batch.h"

#include "common/base/cursor.h"
#include "common/live/live-header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR  512
#define ENTRIES (SECTOR / 8)        /* of a sector of the table */
#define LIMIT   (UINT64_C(1) << 56) /* bytes of a file that an entry can lead to */

/* More blocks than that are written without waiting for each, and then made durable at once: a sync waits
 * for the guest's data, too. */
#define DURABLE_BLOCKS 4

/* ---- the plan ---- */

static uint64_t first_block(const struct live_batch *b, const struct live_counts *c)
{
    return b->first >> c->block_bits;
}

/* The number behind the last block. */
static uint64_t end_block(const struct live_batch *b, const struct live_counts *c)
{
    return ((b->first + b->clusters - 1) >> c->block_bits) + 1;
}

static bool is_missing(const struct live_counts *c, uint64_t block)
{
    return block >= c->entries || !c->table[block];
}

static uint64_t count_missing(const struct live_batch *b, const struct live_counts *c)
{
    uint64_t n = 0;

    for (uint64_t i = first_block(b, c); i < end_block(b, c); i++)
        n += is_missing(c, i);
    return n;
}

/* Clusters of a table for so many blocks, with room for half as many again. */
static uint64_t table_for(const struct live_counts *c, uint64_t blocks)
{
    uint64_t bytes = (blocks + blocks / 2) * 8;

    if (bytes > LIVE_COUNTS_MAX_TABLE)
        bytes = LIVE_COUNTS_MAX_TABLE;
    return ((bytes - 1) >> c->cluster_bits) + 1;
}

static int plan_head(struct live_batch *b, const struct live_counts *c)
{
    uint64_t end;

    if (__builtin_add_overflow(b->first, b->clusters, &end) || end > LIMIT >> c->cluster_bits ||
        end_block(b, c) > LIVE_COUNTS_MAX_TABLE / 8)
        return -EFBIG;
    b->blocks = count_missing(b, c);
    b->table = end_block(b, c) > c->entries ? table_for(c, end_block(b, c)) : 0;
    return 0;
}

int live_batch_plan(struct live_batch *b, const struct live_counts *c, uint64_t first, uint64_t n)
{
    *b = (struct live_batch){.first = first, .clusters = n};
    /* What the head takes has to be counted, too, and may need further blocks. */
    for (;;) {
        int r = plan_head(b, c);

        if (r < 0)
            return r;
        if (b->clusters >= n + b->blocks + b->table)
            return 0;
        b->clusters = n + b->blocks + b->table;
    }
}

/* ---- its steps ---- */

/* A file that is long enough is so because of a try that failed: nobody knows whether durably. */
static int extend(struct live_batch *b, struct live_counts *c, struct live_metadata *m)
{
    uint64_t size = (b->first + b->clusters) << c->cluster_bits;
    int r = size > c->file->size ? live_file_extend(c->file, size) : live_file_sync(c->file);

    if (r < 0)
        return r;
    b->extended = true;
    for (uint64_t i = b->first; i < live_batch_head(b); i++) {
        r = live_metadata_add(m, i);
        if (r < 0)
            return r;
    }
    return 0;
}

static int set_counts(const struct live_batch *b, struct live_counts *c, bool again)
{
    uint64_t at = b->first, end = b->first + b->clusters, place = b->first;
    bool durable = end_block(b, c) - first_block(b, c) <= DURABLE_BLOCKS;

    for (uint64_t i = first_block(b, c); i < end_block(b, c); i++) {
        uint64_t next = (i + 1) << c->block_bits, host;
        int r;

        if (next > end)
            next = end;
        host = is_missing(c, i) ? place++ << c->cluster_bits : c->table[i];
        r = live_counts_in_block(c, host, at, next - at,
                                 again ? LIVE_COUNTS_RETAKE : LIVE_COUNTS_TAKE, durable);
        if (r < 0)
            return r;
        at = next;
    }
    return durable ? 0 : live_counts_sync(c);
}

/* Enter the new blocks. `table` has room for them. */
static void enter_blocks(const struct live_batch *b, const struct live_counts *c, uint64_t *table)
{
    uint64_t place = b->first, end = end_block(b, c);

    for (uint64_t i = first_block(b, c); i < end; i++)
        if (is_missing(c, i))
            table[i] = place++ << c->cluster_bits;
}

static void store_entries(uint8_t *bytes, const uint64_t *table, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        store_be64(bytes + i * 8, table[i]);
}

/* Write the sectors of the table that have new entries. */
static int enter_in_place(const struct live_batch *b, struct live_image *image,
                          struct live_counts *c, uint64_t *table)
{
    uint64_t first = first_block(b, c), n = end_block(b, c) - first;
    uint64_t sector = first / ENTRIES, end = (first + n - 1) / ENTRIES + 1;
    uint8_t bytes[SECTOR];

    for (; sector < end; sector++) {
        int r;

        store_entries(bytes, table + sector * ENTRIES, ENTRIES);
        r = live_file_pwrite_durable(c->file, bytes, SECTOR,
                                     image->header.refcount_table_offset + sector * SECTOR);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Write a table of `clusters` clusters. What is zeroes is so in the file, too. */
static int write_table(struct live_counts *c, uint64_t offset, const uint64_t *table,
                       uint64_t entries)
{
    uint8_t bytes[SECTOR];

    for (uint64_t i = 0; i < entries; i += ENTRIES) {
        static const uint8_t zeroes[SECTOR];
        int r;

        store_entries(bytes, table + i, ENTRIES);
        r = memcmp(bytes, zeroes, SECTOR) == 0
                ? 0
                : live_file_pwrite(c->file, bytes, SECTOR, offset + i * 8);
        if (r < 0)
            return r;
    }
    return live_file_sync(c->file);
}

/* Nothing refers to the old table any more. What fails here leaves a leak. */
static void drop_table(struct live_counts *c, struct live_metadata *m, uint64_t offset,
                       uint64_t clusters)
{
    for (uint64_t i = 0; i < clusters; i++)
        live_metadata_remove(m, (offset >> c->cluster_bits) + i);
    live_counts_change(c, offset >> c->cluster_bits, clusters, LIVE_COUNTS_DOWN, false);
}

static int switch_table(const struct live_batch *b, struct live_image *image, struct live_counts *c,
                        uint64_t *table, struct live_metadata *m)
{
    uint64_t offset = (b->first + b->blocks) << c->cluster_bits;
    uint64_t old = image->header.refcount_table_offset;
    uint64_t old_clusters = image->header.refcount_table_clusters;
    uint64_t entries = (b->table << c->cluster_bits) / 8;
    int r = write_table(c, offset, table, entries);

    if (r == 0)
        r = live_header_set_refcount_table(image, offset, (uint32_t)b->table);
    if (r < 0)
        return r;
    free(c->table);
    c->table = table;
    c->entries = entries;
    drop_table(c, m, old, old_clusters);
    return 0;
}

static int grow_table(const struct live_batch *b, struct live_image *image, struct live_counts *c,
                      struct live_metadata *m)
{
    uint64_t *table = calloc((b->table << c->cluster_bits) / 8, sizeof(*table));
    int r;

    if (!table)
        return -ENOMEM;
    memcpy(table, c->table, c->entries * sizeof(*table));
    enter_blocks(b, c, table);
    r = switch_table(b, image, c, table, m);
    if (r < 0)
        free(table);
    return r;
}

/* Entries in memory are the truth for what comes later: they are there only when the file has them. */
static int enter(const struct live_batch *b, struct live_image *image, struct live_counts *c)
{
    uint64_t first = first_block(b, c) / ENTRIES * ENTRIES;
    uint64_t end = ((end_block(b, c) - 1) / ENTRIES + 1) * ENTRIES;
    uint64_t *table = malloc(end * sizeof(*table));
    int r;

    if (!table)
        return -ENOMEM;
    memcpy(table + first, c->table + first, (end - first) * sizeof(*table));
    enter_blocks(b, c, table);
    r = enter_in_place(b, image, c, table);
    if (r == 0)
        memcpy(c->table + first, table + first, (end - first) * sizeof(*table));
    free(table);
    return r;
}

int live_batch_make(struct live_batch *b, struct live_image *image, struct live_counts *c,
                    struct live_metadata *m)
{
    bool again = b->extended;
    int r = extend(b, c, m);

    if (r == 0)
        r = set_counts(b, c, again);
    if (r < 0 || (b->blocks == 0 && b->table == 0))
        return r;
    return b->table ? grow_table(b, image, c, m) : enter(b, image, c);
}
