/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing the header's cluster: fixed fields, extensions, the name of the backing file, in this
 * order. The extension of bitmaps is the first one, so that all that changes together when bitmaps
 * are stored lies in the file's first 512 bytes. */
#include "common/base/cursor.h"
#include "common/qcow2/q2-header.h"

#include <stdbool.h>
#include <string.h>

#define HEADER_LENGTH 112 /* up to the kind of compression, and its padding */

enum extension {
    EXTENSION_END = 0,
    EXTENSION_BACKING_FORMAT = 0xe2792aca,
    EXTENSION_FEATURE_NAMES = 0x6803f857,
    EXTENSION_BITMAPS = 0x23852875,
    EXTENSION_DATA_FILE = 0x44415441,
};

/* Which of the three words of features a name is for. */
enum feature_word { INCOMPATIBLE = 0, COMPATIBLE = 1, AUTOCLEAR = 2 };

/* A row is as the file has it. */
struct feature_name {
    uint8_t word, bit;
    char name[46];
};
static const struct feature_name feature_names[] = {
    {INCOMPATIBLE, 0, "dirty bit"},
    {INCOMPATIBLE, 1, "corrupt bit"},
    {INCOMPATIBLE, 2, "external data file"},
    {INCOMPATIBLE, 3, "compression type"},
    {INCOMPATIBLE, 4, "extended L2 entries"},
    {COMPATIBLE, 0, "lazy refcounts"},
    {AUTOCLEAR, 0, "bitmaps"},
    {AUTOCLEAR, 1, "raw external data"},
};
_Static_assert(sizeof feature_names[0] == 48, "a row of the file has 48 bytes");

/* Where the next extension goes. */
struct out {
    uint8_t *bytes;
    size_t used, size;
    bool full; /* something had no room */
};

static uint8_t *take(struct out *o, size_t length)
{
    uint8_t *p = o->bytes + o->used;

    if (o->full || o->size - o->used < length) {
        o->full = true;
        return NULL;
    }
    o->used += length;
    return p;
}

static void add_extension(struct out *o, uint32_t type, const void *data, size_t length)
{
    uint8_t *p = take(o, 8 + (length + 7) / 8 * 8);

    if (!p)
        return;
    store_be32(p, type);
    store_be32(p + 4, (uint32_t)length);
    if (length > 0)
        memcpy(p + 8, data, length);
}

static void add_bitmaps(struct out *o, const struct q2_header *h)
{
    uint8_t data[24] = {0};

    store_be32(data, h->nb_bitmaps);
    store_be64(data + 8, h->bitmap_directory_size);
    store_be64(data + 16, h->bitmap_directory_offset);
    add_extension(o, EXTENSION_BITMAPS, data, sizeof data);
}

static void put_fixed(const struct q2_header *h, uint8_t *p)
{
    /* A reader that does not know the field of compression must not read: the bit says so. */
    uint64_t incompatible = h->incompatible & ~(uint64_t)Q2_INCOMPATIBLE_COMPRESSION;

    if (h->compression != Q2_ZLIB)
        incompatible |= Q2_INCOMPATIBLE_COMPRESSION;
    memcpy(p, "QFI\xfb", 4);
    store_be32(p + 4, 3);
    store_be32(p + 20, h->cluster_bits);
    store_be64(p + 24, h->size);
    store_be32(p + 32, h->crypt_method);
    store_be32(p + 36, h->l1_size);
    store_be64(p + 40, h->l1_offset);
    store_be64(p + 48, h->refcount_table_offset);
    store_be32(p + 56, h->refcount_table_clusters);
    store_be32(p + 60, h->nb_snapshots);
    store_be64(p + 64, h->snapshots_offset);
    store_be64(p + 72, incompatible);
    store_be64(p + 80, h->compatible);
    store_be64(p + 88, h->autoclear);
    store_be32(p + 96, h->refcount_order);
    store_be32(p + 100, HEADER_LENGTH);
    p[104] = (uint8_t)h->compression;
}

static int check(const struct q2_header *h, size_t cluster_size, struct q2_error *err)
{
    size_t name = strnlen(h->backing, sizeof h->backing);
    size_t format = strnlen(h->backing_format, sizeof h->backing_format);
    size_t data = strnlen(h->data_file, sizeof h->data_file);

    if (h->version != 3)
        return q2_fail(err, "a qcow2 header of version %u cannot be written", h->version);
    if (h->cluster_bits < 9 || h->cluster_bits > 21 || cluster_size != (size_t)1 << h->cluster_bits)
        return q2_fail(err, "a qcow2 header with cluster_bits %u cannot be written into %zu bytes",
                       h->cluster_bits, cluster_size);
    if (h->size % 512 != 0)
        return q2_fail(err, "the size of a qcow2 disk, %llu bytes, is no multiple of 512",
                       (unsigned long long)h->size);
    if (h->compression != Q2_ZLIB && h->compression != Q2_ZSTD)
        return q2_fail(err, "unknown kind of compression %d", (int)h->compression);
    if (!h->data_file[0] != !(h->incompatible & Q2_INCOMPATIBLE_DATA_FILE))
        return q2_fail(err, "a data file has no name, or a name of one has no data file");
    if (data >= sizeof h->data_file)
        return q2_fail(err, "the name of the data file is longer than %d bytes", Q2_NAME_MAX - 1);
    if (name >= sizeof h->backing)
        return q2_fail(err, "the name of the backing file is longer than %d bytes",
                       Q2_NAME_MAX - 1);
    if (format >= sizeof h->backing_format)
        return q2_fail(err, "the name of the backing file's format is longer than %zu bytes",
                       sizeof h->backing_format - 1);
    if (name > 0 && format == 0)
        return q2_fail(err, "the format of the backing file '%s' is not stated", h->backing);
    return 0;
}

/* All that follows the fixed fields; the names of features only where there is room for them: they
 * are for people. */
static uint8_t *put_rest(struct out *o, const struct q2_header *h, size_t name)
{
    if (h->nb_bitmaps > 0)
        add_bitmaps(o, h);
    if (name > 0)
        add_extension(o, EXTENSION_BACKING_FORMAT, h->backing_format, strlen(h->backing_format));
    if (h->data_file[0])
        add_extension(o, EXTENSION_DATA_FILE, h->data_file, strlen(h->data_file));
    if (o->size - o->used >= 8 + sizeof feature_names + 8 + name)
        add_extension(o, EXTENSION_FEATURE_NAMES, feature_names, sizeof feature_names);
    add_extension(o, EXTENSION_END, NULL, 0);
    return take(o, name);
}

int q2_header_build(const struct q2_header *h, void *bytes, size_t cluster_size,
                    struct q2_error *err)
{
    struct out o = {.bytes = bytes, .used = HEADER_LENGTH, .size = cluster_size};
    size_t name = strnlen(h->backing, sizeof h->backing);
    uint8_t *p;

    if (check(h, cluster_size, err) < 0)
        return -1;
    memset(bytes, 0, cluster_size);
    put_fixed(h, bytes);
    p = put_rest(&o, h, name);
    if (o.full)
        return q2_fail(err, "the qcow2 header does not fit into a cluster of %zu bytes",
                       cluster_size);
    if (name > 0) {
        memcpy(p, h->backing, name);
        store_be64((uint8_t *)bytes + 8, (uint64_t)(p - (uint8_t *)bytes));
        store_be32((uint8_t *)bytes + 16, (uint32_t)name);
    }
    return 0;
}
