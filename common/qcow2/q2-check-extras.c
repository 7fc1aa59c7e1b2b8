/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/qcow2/q2-check-private.h"

#include <errno.h>
#include <stdlib.h>

enum {
    SNAPSHOT_ENTRY = 40,       /* bytes before its variable part */
    BITMAP_ENTRY = 24,         /* the same */
    MAX_EXTRA = 1024,          /* bytes of extra data of a snapshot */
    MAX_L1 = 32 << 20,         /* bytes of a snapshot's L1 table */
    MAX_TABLE = (32 << 20) / 8 /* entries of a bitmap's table */
};

/* A list of entries of different lengths, in the file. */
struct list {
    struct q2_check *c;
    uint64_t start, at;
};

static int read_entry(const struct list *l, uint8_t *entry, size_t length)
{
    return q2_file_pread(&l->c->image->file, entry, length, l->at, l->c->err);
}

/* Go on behind an entry of so many bytes. */
static void skip_entry(struct list *l, uint64_t length)
{
    l->at += (length + 7) & ~UINT64_C(7);
}

static bool is_place(const struct q2_check *c, uint64_t offset)
{
    return offset && !(offset & ((UINT64_C(1) << c->image->geometry.cluster_bits) - 1)) &&
           offset < c->image->file.size;
}

/* ---- internal snapshots ---- */

/* *more is set to whether the list can be followed. */
static int check_snapshot(struct list *l, bool *more)
{
    uint8_t e[SNAPSHOT_ENTRY];
    uint64_t offset;
    uint32_t entries, extra;

    *more = false;
    if (read_entry(l, e, sizeof(e)) < 0)
        return -1;
    offset = load_be64(e);
    entries = load_be32(e + 8);
    extra = load_be32(e + 36);
    if (extra > MAX_EXTRA || l->at >= l->c->image->file.size || !is_place(l->c, offset) ||
        entries > MAX_L1 / 8) {
        q2_check_corrupt(l->c, "the entry at %llu of the table of internal snapshots is damaged",
                         (unsigned long long)l->at);
        return 0;
    }
    *more = true;
    skip_entry(l, (uint64_t)SNAPSHOT_ENTRY + extra + load_be16(e + 12) + load_be16(e + 14));
    return q2_check_l1(l->c, offset, entries, false);
}

int q2_check_snapshots(struct q2_check *c)
{
    const struct q2_header *h = &c->image->header;
    struct list l = {c, h->snapshots_offset, h->snapshots_offset};
    bool more = true;

    for (uint32_t i = 0; i < h->nb_snapshots && more; i++)
        if (check_snapshot(&l, &more) < 0)
            return -1;
    return q2_check_use(c, Q2_USE_ALONE, l.start, l.at - l.start,
                        "the table of internal snapshots");
}

/* ---- bitmaps ---- */

static int check_bitmap_table(struct q2_check *c, uint64_t offset, uint32_t entries)
{
    uint64_t cluster = UINT64_C(1) << c->image->geometry.cluster_bits;
    bool alone;

    if (q2_check_use_table(c, offset, (uint64_t)entries * 8, "the table of a bitmap", &alone) < 0)
        return -1;
    for (uint32_t i = 0; alone && i < entries && offset + i * UINT64_C(8) < c->image->file.size;
         i++) {
        const uint8_t *at = q2_slices_get(&c->tables, offset + i * UINT64_C(8), c->err);
        uint64_t word = at ? load_be64(at) : 0, host = word & Q2_ENTRY_OFFSET;

        if (!at)
            return -1;
        /* Bit 0, without a place: all of it is dirty. */
        if ((word & ~(Q2_ENTRY_OFFSET | 1)) || (host && ((word & 1) || !is_place(c, host))))
            q2_check_corrupt(c, "entry %u of the table of a bitmap is damaged (%016llx)", i,
                             (unsigned long long)word);
        else if (host && q2_check_use(c, Q2_USE_ALONE, host, cluster, "a cluster of a bitmap") < 0)
            return -1;
    }
    return 0;
}

/* *more as above. */
static int check_bitmap(struct list *l, uint64_t end, bool *more)
{
    uint8_t e[BITMAP_ENTRY];
    uint64_t offset, length;
    uint32_t entries;

    *more = false;
    if (read_entry(l, e, sizeof(e)) < 0)
        return -1;
    offset = load_be64(e);
    entries = load_be32(e + 8);
    length = (uint64_t)BITMAP_ENTRY + load_be32(e + 20) + load_be16(e + 18);
    if (length > end - l->at || entries > MAX_TABLE || !is_place(l->c, offset)) {
        q2_check_corrupt(l->c, "the entry at %llu of the directory of bitmaps is damaged",
                         (unsigned long long)l->at);
        return 0;
    }
    *more = true;
    skip_entry(l, length);
    return check_bitmap_table(l->c, offset, entries);
}

int q2_check_bitmaps(struct q2_check *c)
{
    const struct q2_header *h = &c->image->header;
    uint64_t start = h->bitmap_directory_offset, end = start + h->bitmap_directory_size;
    struct list l = {c, start, start};
    bool more = true;

    if (h->nb_bitmaps == 0)
        return 0;
    for (uint32_t i = 0; i < h->nb_bitmaps && more; i++) {
        if (l.at + BITMAP_ENTRY > end) {
            q2_check_corrupt(c, "the directory of bitmaps has %u of %u entries", i, h->nb_bitmaps);
            break;
        }
        if (check_bitmap(&l, end, &more) < 0)
            return -1;
    }
    return q2_check_use(c, Q2_USE_ALONE, start, end - start, "the directory of bitmaps");
}
