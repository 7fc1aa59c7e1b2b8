/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/bits-read.h"
#include "common/state/bit-file.h"
#include "common/util/error.h"

#include <errno.h>

typedef struct bit_file bit_file;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(bit_file, bit_file_close)

/* The mapping under a bitmap. */
struct bits_mapping {
    struct storage *storage;
    uint64_t *words;
    size_t length;
};

static void mapping_free(void *opaque)
{
    struct bits_mapping *m = opaque;

    m->storage->ops->unmap(m->storage, m->words, m->length);
    g_free(m);
}

/* Bits that stand for nothing must be clean: only damage sets them. */
static int check_end(const struct bits_mapping *m, const struct catalogue_bitmap *row, GError **err)
{
    uint64_t granules = (row->size + row->granularity - 1) / row->granularity;
    uint64_t words = m->length / sizeof(uint64_t), first = granules / 64;
    bool good = true;

    if (first < words)
        good = (m->words[first] >> granules % 64) == 0;
    for (uint64_t w = first + 1; w < words && good; w++)
        good = m->words[w] == 0;
    if (!good)
        return fail(err, "its bits were damaged: some beyond its end are set");
    return 0;
}

static int map(bit_file *f, const struct catalogue_bitmap *row, struct bits_mapping *m,
               GError **err)
{
    m->words = bit_file_map(f, NULL, err);
    if (!m->words)
        return -1;
    m->length = bit_file_map_length(row->size, row->granularity);
    if (check_end(m, row, err) < 0) {
        m->storage->ops->unmap(m->storage, m->words, m->length);
        return -1;
    }
    return 0;
}

struct bitmap *bits_read(struct storage *s, const struct catalogue_bitmap *row, GError **err)
{
    g_autoptr(bit_file) f = bit_file_open(s, row->uuid, row->size, row->granularity, err);
    struct bits_mapping *m;
    struct bitmap *bits;
    uint32_t crc;

    /* The checksum is computed also where there is none to compare with: what cannot be read gives an
     * error here, where the mapping would give a SIGBUS. */
    if (!f || bit_file_crc(f, &crc, err) < 0)
        return NULL;
    if (row->sealed && crc != row->crc) {
        fail(err, "its bits were damaged: they are not what the last stop left");
        return NULL;
    }
    m = g_new0(struct bits_mapping, 1);
    m->storage = s;
    if (map(f, row, m, err) < 0) {
        g_free(m);
        return NULL;
    }
    bits = bitmap_alloc_over(m->words, row->size, row->granularity, mapping_free, m);
    if (!bits) {
        fail_errno(err, errno, "state: %s/bits/%s", s->path, row->uuid);
        mapping_free(m);
        return NULL;
    }
    bitmap_summarise(bits);
    return bits;
}
