/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/bitmap-glib.h"

#include "common/util/error.h"

#include <errno.h>

/* What has been made, or *err by errno. */
static struct bitmap *judge(struct bitmap *b, uint64_t size, uint32_t granularity, GError **err)
{
    if (!b)
        fail_errno(err, errno,
                   "a bitmap of granularity %u for a disk of %" G_GUINT64_FORMAT " bytes",
                   granularity, size);
    return b;
}

struct bitmap *bitmap_new(uint64_t size, uint32_t granularity, GError **err)
{
    return judge(bitmap_alloc(size, granularity), size, granularity, err);
}

struct bitmap *bitmap_new_over(uint64_t *words, uint64_t size, uint32_t granularity,
                               void (*release)(void *opaque), void *opaque, GError **err)
{
    return judge(bitmap_alloc_over(words, size, granularity, release, opaque), size, granularity,
                 err);
}

char *bitmap_sha256(const struct bitmap *b)
{
    const uint64_t words = bitmap_words(bitmap_size(b), bitmap_granularity(b));
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    for (uint64_t w = 0; w < words; w++) {
        uint64_t bits = GUINT64_TO_LE(bitmap_word(b, w));

        g_checksum_update(sum, (const guchar *)&bits, sizeof bits);
    }
    return g_strdup(g_checksum_get_string(sum));
}
