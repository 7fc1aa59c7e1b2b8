/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/qcow2/q2-check-private.h"

#define L1_RESERVED (~(Q2_ENTRY_OFFSET | Q2_ENTRY_COPIED))

static uint64_t cluster_bytes(const struct q2_check *c)
{
    return UINT64_C(1) << c->image->geometry.cluster_bits;
}

/* An entry says whether its cluster is used once. */
static int check_copied(struct q2_check *c, uint64_t word, uint64_t host, const char *what,
                        uint64_t offset)
{
    uint64_t stored;

    if (q2_check_stored(c, host >> c->image->geometry.cluster_bits, &stored) < 0)
        return -1;
    if (!(word & Q2_ENTRY_COPIED) != (stored != 1))
        q2_check_mendable(c, Q2_WRONG_FLAGS,
                          "the flag COPIED of the %s for %llu of the disk is wrong", what,
                          (unsigned long long)offset);
    return 0;
}

/* A cluster that an L2 entry has, whatever it is used for. */
static int use_cluster(struct q2_check *c, uint64_t word, uint64_t host, uint64_t offset,
                       bool active)
{
    const struct q2_image *image = c->image;

    if (image->geometry.data_file) {
        if (host != offset || host >= image->data.size)
            q2_check_corrupt(c, "the cluster for %llu of the disk is at %llu of the data file",
                             (unsigned long long)offset, (unsigned long long)host);
        return 0;
    }
    if (q2_check_use(c, Q2_USE_DATA, host, cluster_bytes(c), "a cluster of data") < 0)
        return -1;
    return active ? check_copied(c, word, host, "L2 entry", offset) : 0;
}

static int check_entry(struct q2_check *c, const uint8_t *at, uint64_t offset, bool active)
{
    const struct q2_geometry *g = &c->image->geometry;
    uint64_t word = load_be64(at), bitmap = g->extended ? load_be64(at + 8) : 0;
    struct q2_entry e;

    if (!word && !bitmap)
        return 0;
    e = q2_entry_l2(g, word, bitmap, 0);
    if (q2_entry_reserved(g, word, bitmap))
        q2_check_corrupt(c, "the L2 entry for %llu of the disk has reserved bits (%016llx)",
                         (unsigned long long)offset, (unsigned long long)word);
    if (e.kind == Q2_INVALID || (e.kind == Q2_COMPRESSED && e.host >= c->image->file.size)) {
        q2_check_corrupt(c, "the L2 entry for %llu of the disk breaks the rules (%016llx)",
                         (unsigned long long)offset, (unsigned long long)word);
        return 0;
    }
    if (e.kind == Q2_COMPRESSED)
        return q2_check_use(c, Q2_USE_COMPRESSED, e.host, e.length, "a compressed cluster");
    return e.host || (g->data_file && (word & Q2_ENTRY_COPIED))
               ? use_cluster(c, word, e.host, offset, active)
               : 0;
}

static int check_l2(struct q2_check *c, uint64_t host, uint64_t offset, bool active)
{
    unsigned size = q2_entry_size(&c->image->geometry);

    if (q2_check_watch(c) < 0)
        return -1;
    for (uint64_t at = 0; at < cluster_bytes(c); at += size, offset += cluster_bytes(c)) {
        const uint8_t *entry = q2_slices_get(&c->tables, host + at, c->err);

        if (!entry || check_entry(c, entry, offset, active) < 0)
            return -1;
    }
    return 0;
}

/* Whether a place can have an L2 table. An L1 table has each of them once. */
static bool can_be_table(const struct q2_check *c, const struct q2_entry *table)
{
    uint64_t size = c->image->file.size, number = table->host >> c->image->geometry.cluster_bits;

    return table->kind == Q2_DATA && table->host < size && cluster_bytes(c) <= size - table->host &&
           q2_counts_get(&c->walked, number) != c->walk;
}

static int check_table(struct q2_check *c, uint64_t word, uint64_t offset, bool active)
{
    struct q2_entry table = q2_entry_l1(&c->image->geometry, word);

    if (word & L1_RESERVED)
        q2_check_corrupt(c, "the L1 entry for %llu of the disk has reserved bits (%016llx)",
                         (unsigned long long)offset, (unsigned long long)word);
    if (table.kind == Q2_UNALLOCATED)
        return 0;
    if (!can_be_table(c, &table)) {
        q2_check_corrupt(c, "the L2 table for %llu of the disk is at %llu, where none can be",
                         (unsigned long long)offset, (unsigned long long)table.host);
        return 0;
    }
    if (q2_check_use(c, Q2_USE_TABLE, table.host, cluster_bytes(c), "an L2 table") < 0 ||
        q2_counts_set(&c->walked, table.host >> c->image->geometry.cluster_bits, c->walk, c->err) <
            0 ||
        (active && check_copied(c, word, table.host, "L1 entry", offset) < 0))
        return -1;
    return check_l2(c, table.host, offset, active);
}

int q2_check_l1(struct q2_check *c, uint64_t offset, uint64_t entries, bool active)
{
    uint64_t span = q2_table_span(&c->image->geometry);
    bool alone;

    c->walk++;
    if (entries == 0)
        return 0;
    if (q2_check_use_table(c, offset, entries * 8, "an L1 table", &alone) < 0)
        return -1;
    for (uint64_t i = 0; alone && i < entries && offset + i * 8 < c->image->file.size; i++) {
        const uint8_t *at = q2_slices_get(&c->tables, offset + i * 8, c->err);

        if (!at || check_table(c, load_be64(at), i * span, active) < 0)
            return -1;
    }
    return 0;
}
