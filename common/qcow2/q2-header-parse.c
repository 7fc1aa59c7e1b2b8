/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/qcow2/q2-entry.h"
#include "common/qcow2/q2-header.h"

#include <stdbool.h>
#include <string.h>

#define MAGIC UINT32_C(0x514649fb)

enum {
    V2_LENGTH = 72,
    V3_LENGTH = 104,
    MAX_L1 = 32 << 20,       /* bytes of the L1 table */
    MAX_REFCOUNTS = 8 << 20, /* bytes of the table of reference counts */
    MAX_SNAPSHOTS = 65536,
    MAX_BITMAPS = 65535,
    MAX_BITMAP_ENTRY = 1024, /* bytes of a bitmap's entry in the directory: no name is longer */
    FEATURE_ENTRY = 48,
};

enum {
    EXTENSION_END = 0,
    EXTENSION_BACKING_FORMAT = 0xe2792aca,
    EXTENSION_FEATURES = 0x6803f857,
    EXTENSION_BITMAPS = 0x23852875,
    EXTENSION_ENCRYPTION = 0x0537be77,
    EXTENSION_DATA_FILE = 0x44415441,
};

#define KNOWN                                                                                      \
    ((uint64_t)(Q2_INCOMPATIBLE_DIRTY | Q2_INCOMPATIBLE_CORRUPT | Q2_INCOMPATIBLE_DATA_FILE |      \
                Q2_INCOMPATIBLE_COMPRESSION | Q2_INCOMPATIBLE_EXTENDED_L2))

/* What is being parsed. */
struct parse {
    const uint8_t *bytes;
    size_t length; /* of `bytes`, at most a cluster */
    uint64_t file_size;
    struct q2_header *h;
    uint64_t backing_offset; /* of the name in the header's cluster; 0: none */
    uint32_t backing_length;
    struct q2_error *err;
};

/* An extension of the header; `type` EXTENSION_END: there are no more. */
struct extension {
    uint32_t type, length;
    const uint8_t *data;
};

/* ---- the fields ---- */

static void read_fields(struct parse *p)
{
    const uint8_t *b = p->bytes;
    struct q2_header *h = p->h;

    p->backing_offset = load_be64(b + 8);
    p->backing_length = load_be32(b + 16);
    h->cluster_bits = load_be32(b + 20);
    h->size = load_be64(b + 24);
    h->crypt_method = load_be32(b + 32);
    h->l1_size = load_be32(b + 36);
    h->l1_offset = load_be64(b + 40);
    h->refcount_table_offset = load_be64(b + 48);
    h->refcount_table_clusters = load_be32(b + 56);
    h->nb_snapshots = load_be32(b + 60);
    h->snapshots_offset = load_be64(b + 64);
    h->refcount_order = 4;
    h->header_length = V2_LENGTH;
}

static void read_fields_v3(struct parse *p)
{
    const uint8_t *b = p->bytes;
    struct q2_header *h = p->h;

    h->incompatible = load_be64(b + 72);
    h->compatible = load_be64(b + 80);
    h->autoclear = load_be64(b + 88);
    h->refcount_order = load_be32(b + 96);
    h->header_length = load_be32(b + 100);
}

static int too_short(const struct parse *p)
{
    return q2_fail(p->err, "The file ends inside of its qcow2 header");
}

static int check_cluster_size(const struct parse *p)
{
    if (p->h->cluster_bits < 9 || p->h->cluster_bits > 21)
        return q2_fail(p->err, "Its clusters are of 2^%u bytes; qcow2 allows 2^9 to 2^21",
                       p->h->cluster_bits);
    return 0;
}

static int read_head(struct parse *p)
{
    if (p->length < 8)
        return too_short(p);
    if (load_be32(p->bytes) != MAGIC)
        return q2_fail(p->err, "It is no qcow2 file");
    p->h->version = load_be32(p->bytes + 4);
    if (p->h->version != 2 && p->h->version != 3)
        return q2_fail(p->err, "It is of version %u of qcow2; 2 and 3 are known", p->h->version);
    if (p->length < (p->h->version == 2 ? V2_LENGTH : V3_LENGTH))
        return too_short(p);
    read_fields(p);
    if (check_cluster_size(p) < 0)
        return -1;
    if (p->length > (size_t)1 << p->h->cluster_bits)
        p->length = (size_t)1 << p->h->cluster_bits;
    if (p->h->version == 3)
        read_fields_v3(p);
    return 0;
}

static int check_header_length(const struct parse *p)
{
    uint32_t length = p->h->header_length;

    if (p->h->version == 3 &&
        (length < V3_LENGTH || length % 8 || length > 1U << p->h->cluster_bits))
        return q2_fail(p->err, "Its header is said to have %u bytes", length);
    if (length > p->length)
        return too_short(p);
    return 0;
}

/* ---- extensions ---- */

/* Take the extension at *at, and move *at behind it. 0, or -1 and *err. */
static int next_extension(const struct parse *p, size_t *at, struct extension *e)
{
    uint64_t end = UINT64_C(1) << p->h->cluster_bits, limit = p->length;

    e->type = EXTENSION_END;
    if (p->backing_offset && p->backing_offset < end)
        end = p->backing_offset;
    if (end < limit)
        limit = end;
    if (*at + 8 > end)
        return 0;
    /* What a file does not have is zeroes, and ends the list. */
    if (*at + 8 > limit)
        return p->length >= p->file_size ? 0 : too_short(p);
    e->type = load_be32(p->bytes + *at);
    e->length = load_be32(p->bytes + *at + 4);
    e->data = p->bytes + *at + 8;
    *at += 8;
    if (e->type == EXTENSION_END)
        return 0;
    if (e->length > end - *at)
        return q2_fail(
            p->err, "An extension of its header (0x%08x) has %u bytes, for which there is no room",
            e->type, e->length);
    if (e->length > limit - *at)
        return too_short(p);
    *at += (e->length + 7) & ~UINT32_C(7);
    return 0;
}

/* Copy a string of the header, which has no NUL at its end. */
static int take_string(const struct parse *p, const char *what, const uint8_t *from, size_t length,
                       char *to, size_t room)
{
    if (length >= room)
        return q2_fail(p->err, "%s has %zu bytes; at most %zu are allowed", what, length, room - 1);
    if (memchr(from, 0, length))
        return q2_fail(p->err, "%s has a NUL in it", what);
    memcpy(to, from, length);
    to[length] = 0;
    return 0;
}

static bool inside(const struct parse *p, uint64_t offset, uint64_t length)
{
    return offset <= p->file_size && length <= p->file_size - offset;
}

static bool is_aligned(const struct parse *p, uint64_t offset)
{
    return !(offset & ((UINT64_C(1) << p->h->cluster_bits) - 1));
}

static int take_bitmaps(const struct parse *p, const struct extension *e)
{
    struct q2_header *h = p->h;

    /* Who does not know the extension clears the flag: what it says is of no use then. */
    if (!(h->autoclear & Q2_AUTOCLEAR_BITMAPS))
        return 0;
    if (e->length != 24)
        return q2_fail(p->err, "Its extension for bitmaps has %u bytes, and not 24", e->length);
    h->nb_bitmaps = load_be32(e->data);
    h->bitmap_directory_size = load_be64(e->data + 8);
    h->bitmap_directory_offset = load_be64(e->data + 16);
    if (h->nb_bitmaps == 0 || h->nb_bitmaps > MAX_BITMAPS || load_be32(e->data + 4) != 0)
        return q2_fail(p->err, "Its extension for bitmaps is damaged");
    if (h->bitmap_directory_offset == 0 || !is_aligned(p, h->bitmap_directory_offset) ||
        h->bitmap_directory_size > (uint64_t)MAX_BITMAPS * MAX_BITMAP_ENTRY ||
        !inside(p, h->bitmap_directory_offset, h->bitmap_directory_size))
        return q2_fail(p->err,
                       "Its directory of bitmaps is at %llu, with %llu bytes, where none can be",
                       (unsigned long long)h->bitmap_directory_offset,
                       (unsigned long long)h->bitmap_directory_size);
    return 0;
}

static int take_extension(const struct parse *p, const struct extension *e)
{
    switch (e->type) {
    case EXTENSION_BACKING_FORMAT:
        return take_string(p, "The format of its backing file", e->data, e->length,
                           p->h->backing_format, sizeof(p->h->backing_format));
    case EXTENSION_DATA_FILE:
        return take_string(p, "The name of its data file", e->data, e->length, p->h->data_file,
                           sizeof(p->h->data_file));
    case EXTENSION_BITMAPS:
        return take_bitmaps(p, e);
    case EXTENSION_ENCRYPTION:
        return q2_fail(p->err, "It is encrypted (LUKS), which is not supported");
    default:
        return 0;
    }
}

static int take_extensions(const struct parse *p)
{
    size_t at = p->h->header_length;
    struct extension e;

    for (;;) {
        if (next_extension(p, &at, &e) < 0)
            return -1;
        if (e.type == EXTENSION_END)
            return 0;
        if (take_extension(p, &e) < 0)
            return -1;
    }
}

/* ---- features ---- */

/* The name of an incompatible feature, of the file's own table; NULL. It is not terminated. */
static const char *feature_name(const struct parse *p, unsigned bit)
{
    struct parse quiet = *p;
    size_t at = p->h->header_length;
    struct extension e;

    quiet.err = NULL;
    while (next_extension(&quiet, &at, &e) == 0 && e.type != EXTENSION_END)
        for (uint32_t i = 0; e.type == EXTENSION_FEATURES && i + FEATURE_ENTRY <= e.length;
             i += FEATURE_ENTRY)
            if (e.data[i] == 0 && e.data[i + 1] == bit && e.data[i + 2])
                return (const char *)e.data + i + 2;
    return NULL;
}

static int refuse_features(const struct parse *p, uint64_t unknown)
{
    unsigned bit = (unsigned)__builtin_ctzll(unknown);
    const char *name = feature_name(p, bit);
    char shown[FEATURE_ENTRY - 1];

    if (!name)
        return q2_fail(p->err, "It needs a feature that is not known: incompatible bit %u", bit);
    memcpy(shown, name, FEATURE_ENTRY - 2);
    shown[FEATURE_ENTRY - 2] = 0;
    for (char *c = shown; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return q2_fail(p->err, "It needs a feature that is not known: incompatible bit %u, \"%s\"", bit,
                   shown);
}

static int check_compression(const struct parse *p)
{
    bool other = p->h->incompatible & Q2_INCOMPATIBLE_COMPRESSION;
    unsigned type = p->h->header_length > V3_LENGTH ? p->bytes[V3_LENGTH] : 0;

    if (type > Q2_ZSTD)
        return q2_fail(p->err, "Its clusters are compressed in a way that is not known (type %u)",
                       type);
    if (other != (type != Q2_ZLIB))
        return q2_fail(p->err, "Its type of compression (%u) and its feature bits do not agree",
                       type);
    p->h->compression = type;
    return 0;
}

static int check_features(const struct parse *p)
{
    const struct q2_header *h = p->h;
    uint64_t unknown = h->incompatible & ~KNOWN;

    if (unknown)
        return refuse_features(p, unknown);
    if (h->crypt_method)
        return q2_fail(p->err, "It is encrypted (%s), which is not supported",
                       h->crypt_method == 1   ? "AES"
                       : h->crypt_method == 2 ? "LUKS"
                                              : "by a method that is not known");
    if ((h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2) && h->cluster_bits < 14)
        return q2_fail(p->err, "It has subclusters in clusters of %u bytes; they begin at 16384",
                       1U << h->cluster_bits);
    if (h->refcount_order > 6)
        return q2_fail(p->err, "Its reference counts are of 2^%u bits; qcow2 allows up to 2^6",
                       h->refcount_order);
    return h->version == 2 ? 0 : check_compression(p);
}

/* ---- places in the file ---- */

static int check_l1(const struct parse *p)
{
    const struct q2_header *h = p->h;
    struct q2_geometry g = {.cluster_bits = h->cluster_bits,
                            .extended = h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2};
    uint64_t span = q2_table_span(&g), bytes = (uint64_t)h->l1_size * 8;

    if (bytes > MAX_L1)
        return q2_fail(p->err, "Its L1 table has %u entries, more than %u", h->l1_size, MAX_L1 / 8);
    if (h->size / span + (h->size % span != 0) > h->l1_size)
        return q2_fail(p->err, "Its L1 table has %u entries, too few for a disk of %llu bytes",
                       h->l1_size, (unsigned long long)h->size);
    if (h->l1_size == 0)
        return 0;
    if (h->l1_offset == 0 || !is_aligned(p, h->l1_offset))
        return q2_fail(p->err, "Its L1 table is at %llu, which is no place for one",
                       (unsigned long long)h->l1_offset);
    if (!inside(p, h->l1_offset, bytes))
        return q2_fail(p->err, "Its L1 table lies behind the end of the file");
    return 0;
}

static int check_refcounts(const struct parse *p)
{
    const struct q2_header *h = p->h;
    uint64_t bytes = (uint64_t)h->refcount_table_clusters << h->cluster_bits;

    if (bytes == 0 || bytes > MAX_REFCOUNTS)
        return q2_fail(p->err, "Its table of reference counts has %u clusters",
                       h->refcount_table_clusters);
    if (h->refcount_table_offset == 0 || !is_aligned(p, h->refcount_table_offset))
        return q2_fail(p->err,
                       "Its table of reference counts is at %llu, which is no place for one",
                       (unsigned long long)h->refcount_table_offset);
    if (!inside(p, h->refcount_table_offset, bytes))
        return q2_fail(p->err, "Its table of reference counts lies behind the end of the file");
    return 0;
}

static int check_snapshots(const struct parse *p)
{
    const struct q2_header *h = p->h;

    if (h->nb_snapshots == 0)
        return 0;
    if (h->nb_snapshots > MAX_SNAPSHOTS)
        return q2_fail(p->err, "It has %u internal snapshots, more than %d", h->nb_snapshots,
                       MAX_SNAPSHOTS);
    if (h->snapshots_offset == 0 || !is_aligned(p, h->snapshots_offset) ||
        h->snapshots_offset >= p->file_size)
        return q2_fail(p->err,
                       "Its table of internal snapshots is at %llu, which is no place for one",
                       (unsigned long long)h->snapshots_offset);
    return 0;
}

/* ---- names ---- */

static int take_backing(const struct parse *p)
{
    uint64_t end = UINT64_C(1) << p->h->cluster_bits;

    if (!p->backing_offset || !p->backing_length)
        return 0;
    if (p->backing_offset < p->h->header_length || p->backing_offset > end ||
        p->backing_length > end - p->backing_offset)
        return q2_fail(p->err, "The name of its backing file lies outside of the header's cluster");
    if (p->backing_offset + p->backing_length > p->length)
        return too_short(p);
    return take_string(p, "The name of its backing file", p->bytes + p->backing_offset,
                       p->backing_length, p->h->backing, sizeof(p->h->backing));
}

static int check_data_file(const struct parse *p)
{
    const struct q2_header *h = p->h;

    if (!(h->incompatible & Q2_INCOMPATIBLE_DATA_FILE)) {
        p->h->data_file[0] = 0;
        return 0;
    }
    if (!h->data_file[0])
        return q2_fail(p->err, "It has its data in another file, and does not name that");
    return 0;
}

int q2_header_parse(const void *bytes, size_t length, uint64_t file_size, struct q2_header *h,
                    struct q2_error *err)
{
    struct parse p = {bytes, length, file_size, h, 0, 0, err};

    memset(h, 0, sizeof(*h));
    if (read_head(&p) < 0 || check_header_length(&p) < 0 || check_features(&p) < 0 ||
        check_l1(&p) < 0 || check_refcounts(&p) < 0 || check_snapshots(&p) < 0 ||
        take_extensions(&p) < 0 || take_backing(&p) < 0 || check_data_file(&p) < 0)
        return -1;
    return 0;
}
