/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/bits-read.h"
#include "common/state/bit-file.h"
#include "common/state/folder.h"
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

struct bitmap *bits_read(struct storage *s, const struct catalogue_bitmap *row, GError **err)
{
    g_autoptr(bit_file) f = bit_file_open(s, row->uuid, row->size, row->granularity, err);
    struct bits_mapping *m;
    struct bitmap *bits;
    uint64_t *words;
    uint32_t crc;

    /* The checksum is computed also where there is none to compare with: what cannot be read gives an
     * error here, where the mapping would give a SIGBUS. */
    if (!f || bit_file_crc(f, &crc, err) < 0)
        return NULL;
    if (row->sealed && crc != row->crc) {
        fail(err, "state: %s/" STATE_BITS "/%s: its bits are not those that the last stop left",
             s->path, row->uuid);
        return NULL;
    }
    words = bit_file_map(f, NULL, err);
    if (!words)
        return NULL;
    m = g_new0(struct bits_mapping, 1);
    *m = (struct bits_mapping){s, words, bit_file_map_length(row->size, row->granularity)};
    bits = bitmap_alloc_over(words, row->size, row->granularity, mapping_free, m);
    if (!bits) {
        fail_errno(err, errno, "state: %s/" STATE_BITS "/%s", s->path, row->uuid);
        mapping_free(m);
        return NULL;
    }
    bitmap_summarise(bits);
    return bits;
}
