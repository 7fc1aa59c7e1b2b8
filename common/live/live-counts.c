/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-counts.h"

#include "common/base/cursor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR UINT64_C(512)
#define PIECE  65536 /* bytes of a table or block that are read at once */

/* Bytes of blocks behind the end of the file that are looked at for what they count. Who makes images
 * has no reason for any; a sparse file can claim a million. */
#define MAX_LOOK (UINT64_C(64) << 20)

/* How far behind the end of the file a cluster may be counted: what a crash of another program leaves. */
#define MAX_BEHIND (UINT64_C(1) << 30)

/* ---- the table ---- */

static int note_block(struct live_counts *c, const struct live_image *image,
                      struct live_metadata *m, uint64_t index, uint64_t host, struct q2_error *err)
{
    uint64_t size = image->top->file.size;
    char what[64];

    snprintf(what, sizeof(what), "block %llu of reference counts", (unsigned long long)index);
    if (host >= size || size - host < image->top->cluster)
        return live_metadata_refuse(image, err, "%s is at %llu, where none can be", what,
                                    (unsigned long long)host);
    c->table[index] = host;
    return live_metadata_note(m, image, host, 1, what, err);
}

/* Words that are 0 are not written, so that a table that is sparse in the file takes no memory. */
static int read_table(struct live_counts *c, const struct live_image *image,
                      struct live_metadata *m, struct q2_error *err)
{
    uint8_t piece[PIECE];

    for (uint64_t at = 0; at < c->entries * 8; at += PIECE) {
        uint64_t left = c->entries * 8 - at;
        size_t length = left < PIECE ? (size_t)left : PIECE;
        int r = live_file_pread(c->file, piece, length, image->header.refcount_table_offset + at);

        if (r < 0)
            return q2_fail_errno(err, -r, "Cannot read the table of reference counts of '%s'",
                                 c->file->path);
        for (size_t i = 0; i < length; i += 8) {
            uint64_t host = load_be64(piece + i);

            if (host && note_block(c, image, m, (at + i) / 8, host, err) < 0)
                return -1;
        }
    }
    return 0;
}

int live_counts_init(struct live_counts *c, const struct live_image *image, struct live_metadata *m,
                     struct q2_error *err)
{
    const struct q2_header *h = &image->header;

    memset(c, 0, sizeof(*c));
    c->file = &image->top->file;
    c->cluster_bits = h->cluster_bits;
    c->order = h->refcount_order;
    c->block_bits = h->cluster_bits + 3 - h->refcount_order;
    c->entries = ((uint64_t)h->refcount_table_clusters << h->cluster_bits) / 8;
    c->table = calloc(c->entries, sizeof(*c->table));
    if (!c->table)
        return q2_fail_errno(err, ENOMEM, "Cannot open '%s' for writing", c->file->path);
    if (live_metadata_note(m, image, h->refcount_table_offset, h->refcount_table_clusters,
                           "the table of reference counts", err) < 0)
        return -1;
    return read_table(c, image, m, err);
}

void live_counts_clear(struct live_counts *c)
{
    free(c->table);
    c->table = NULL;
}

/* ---- the end ---- */

/* The number in the block of the last count that is not 0, and 1; 0: all are. */
static int last_of_block(struct live_counts *c, uint64_t host, uint64_t *end)
{
    uint64_t at = UINT64_C(1) << c->cluster_bits;
    uint8_t piece[PIECE];

    *end = 0;
    while (at > 0) {
        size_t length = at < PIECE ? (size_t)at : PIECE;
        int r = live_file_pread(c->file, piece, length, host + at - length);

        if (r < 0)
            return r;
        at -= length;
        while (length > 0 && !piece[length - 1])
            length--;
        if (length > 0) {
            unsigned top = 31 - (unsigned)__builtin_clz(piece[length - 1]);

            *end = (((at + length - 1) * 8 + top) >> c->order) + 1;
            return 0;
        }
    }
    return 0;
}

/* Up to where a cluster may be counted. */
static int check_end(const struct live_counts *c, const struct live_image *image, uint64_t least,
                     uint64_t end, struct q2_error *err)
{
    uint64_t most = 2 * least + (MAX_BEHIND >> c->cluster_bits);

    if (end > most)
        return live_metadata_refuse(image, err,
                                    "cluster %llu is counted, far behind the end of the file",
                                    (unsigned long long)(end - 1));
    return 0;
}

int live_counts_end(struct live_counts *c, const struct live_image *image, uint64_t least,
                    uint64_t *end, struct q2_error *err)
{
    uint64_t looked = 0, in_block;

    *end = least;
    for (uint64_t i = c->entries; i-- > least >> c->block_bits;) {
        int r;

        if (!c->table[i])
            continue;
        looked += UINT64_C(1) << c->cluster_bits;
        if (looked > MAX_LOOK)
            return live_metadata_refuse(
                image, err,
                "it has too many blocks of reference counts behind the end of the file");
        r = last_of_block(c, c->table[i], &in_block);
        if (r < 0)
            return q2_fail_errno(err, -r, "Cannot read block %llu of reference counts of '%s'",
                                 (unsigned long long)i, c->file->path);
        if (in_block > 0) {
            in_block += i << c->block_bits;
            if (in_block > least)
                *end = in_block;
            return check_end(c, image, least, *end, err);
        }
    }
    return 0;
}

/* ---- changes ---- */

static uint64_t get(const uint8_t *bytes, unsigned order, uint64_t i)
{
    switch (order) {
    case 6:
        return load_be64(bytes + i * 8);
    case 5:
        return load_be32(bytes + i * 4);
    case 4:
        return load_be16(bytes + i * 2);
    default:
        return bytes[(i << order) / 8] >> (i << order) % 8 & ((1U << (1U << order)) - 1);
    }
}

static void set(uint8_t *bytes, unsigned order, uint64_t i, uint64_t count)
{
    unsigned shift, mask;

    switch (order) {
    case 6:
        store_be64(bytes + i * 8, count);
        break;
    case 5:
        store_be32(bytes + i * 4, (uint32_t)count);
        break;
    case 4:
        store_be16(bytes + i * 2, (uint16_t)count);
        break;
    default:
        shift = (unsigned)((i << order) % 8);
        mask = (1U << (1U << order)) - 1;
        bytes += (i << order) / 8;
        *bytes = (uint8_t)((*bytes & ~(mask << shift)) | (unsigned)count << shift);
    }
}

/* A piece of a block, while it is changed. */
struct piece {
    uint64_t host;     /* of its first byte, in the file */
    uint64_t first;    /* cluster of its first count */
    uint64_t from, to; /* clusters whose counts change */
    size_t length;
    uint8_t bytes[PIECE];
};

static int damaged(struct live_counts *c, uint64_t cluster, uint64_t count)
{
    q2_fail(&c->damage, "the cluster at %llu is counted %llu times, which cannot be",
            (unsigned long long)(cluster << c->cluster_bits), (unsigned long long)count);
    return -EIO;
}

static int change_piece(struct live_counts *c, struct piece *p, enum live_counts_change how)
{
    for (uint64_t i = p->from; i < p->to; i++) {
        uint64_t old = get(p->bytes, c->order, i - p->first), new = 1;
        bool fine = old == 0;

        switch (how) {
        case LIVE_COUNTS_TAKE:
            break;
        case LIVE_COUNTS_RETAKE:
            fine = old <= 1;
            break;
        case LIVE_COUNTS_RETURN:
            fine = old == 1;
            new = 0;
            break;
        case LIVE_COUNTS_DOWN:
            fine = old >= 1;
            new = old - 1;
            break;
        }
        if (!fine)
            return damaged(c, i, old);
        set(p->bytes, c->order, i - p->first, new);
    }
    return 0;
}

/* Clusters that are counted no more give their room back. What the file system cannot do is no error. */
static int punch(struct live_counts *c, uint64_t from, uint64_t to)
{
    uint64_t size = c->file->size, start = from << c->cluster_bits, end = to << c->cluster_bits;
    int r;

    if (end > size)
        end = size;
    if (start >= end)
        return 0;
    r = live_file_zero(c->file, end - start, start, true);
    return r == -ENOTSUP ? 0 : r;
}

static int punch_piece(struct live_counts *c, const struct piece *p)
{
    uint64_t i = p->from, end;

    while (i < p->to) {
        for (end = i; end < p->to && get(p->bytes, c->order, end - p->first) == 0; end++)
            ;
        if (end > i) {
            int r = punch(c, i, end);

            if (r < 0)
                return r;
        }
        i = end + 1;
    }
    return 0;
}

static int do_piece(struct live_counts *c, struct piece *p, enum live_counts_change how,
                    bool durable)
{
    int r = live_file_pread(c->file, p->bytes, p->length, p->host);

    if (r == 0)
        r = change_piece(c, p, how);
    if (r < 0)
        return r;
    if (durable)
        return live_file_pwrite_durable(c->file, p->bytes, p->length, p->host);
    c->unsynced = true;
    r = live_file_pwrite(c->file, p->bytes, p->length, p->host);
    return r == 0 && how == LIVE_COUNTS_DOWN ? punch_piece(c, p) : r;
}

int live_counts_in_block(struct live_counts *c, uint64_t host, uint64_t first, uint64_t n,
                         enum live_counts_change how, bool durable)
{
    uint64_t in_block = first & ((UINT64_C(1) << c->block_bits) - 1), end = first + n;
    uint64_t at = (in_block << c->order) / 8 & ~(SECTOR - 1);
    uint64_t stop = ((((in_block + n) << c->order) + 7) / 8 + SECTOR - 1) & ~(SECTOR - 1);
    struct piece p;

    p.from = first;
    for (; at < stop; at += p.length) {
        int r;

        p.length = stop - at < PIECE ? (size_t)(stop - at) : PIECE;
        p.host = host + at;
        p.first = first - in_block + (at * 8 >> c->order);
        p.to = p.first + (p.length * 8 >> c->order);
        if (p.to > end)
            p.to = end;
        r = do_piece(c, &p, how, durable);
        if (r < 0)
            return r;
        p.from = p.to;
    }
    return 0;
}

int live_counts_change(struct live_counts *c, uint64_t first, uint64_t n,
                       enum live_counts_change how, bool durable)
{
    uint64_t end = first + n;

    while (first < end) {
        uint64_t index = first >> c->block_bits, next = (index + 1) << c->block_bits;
        int r;

        if (next > end)
            next = end;
        if (index >= c->entries || !c->table[index])
            return damaged(c, first, 0);
        r = live_counts_in_block(c, c->table[index], first, next - first, how, durable);
        if (r < 0)
            return r;
        first = next;
    }
    return 0;
}

int live_counts_sync(struct live_counts *c)
{
    int r = c->unsynced ? live_file_sync(c->file) : 0;

    if (r == 0)
        c->unsynced = false;
    return r;
}
