/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty bitmaps and their models. */
#include "tests/rigs/model.h"

#include <inttypes.h>
#include <string.h>

struct model_bitmap *model_bitmap_new(struct model_disk *d, const char *name, uint32_t granularity,
                                      bool recording)
{
    struct model_bitmap *b = g_new0(struct model_bitmap, 1);

    b->name = g_strdup(name);
    b->granularity = granularity;
    b->recording = recording;
    b->size = d->now->size;
    b->granules = d->room / granularity + 1;
    b->bits = g_new0(bool, b->granules);
    return b;
}

void model_bitmap_free(gpointer bitmap)
{
    struct model_bitmap *b = bitmap;

    dirty_bitmap_unref(b->db);
    g_free(b->name);
    g_free(b->bits);
    g_free(b);
}

void model_bitmap_mark(struct model_bitmap *b, uint64_t offset, uint64_t length)
{
    uint64_t end = MIN(offset + length, b->size);

    for (uint64_t g = offset / b->granularity; length > 0 && g * b->granularity < end; g++)
        b->bits[g] = true;
}

void model_bitmap_clear(struct model_bitmap *b)
{
    memset(b->bits, 0, b->granules);
}

void model_bitmap_merge(struct model_bitmap *b, const struct model_bitmap *source)
{
    for (uint64_t g = 0; g * source->granularity < source->size; g++)
        if (source->bits[g])
            model_bitmap_mark(b, g * source->granularity,
                              MIN(source->granularity, source->size - g * source->granularity));
}

void model_bitmap_grow(struct model_bitmap *b, uint64_t size)
{
    uint64_t old = b->size;

    b->size = size;
    if (b->recording)
        model_bitmap_mark(b, old, size - old);
}

static void check_extents(struct model_disk *d, struct model_bitmap *b, bool exact)
{
    struct extents e = EXTENTS_INIT;
    uint64_t at = 0;

    if (dirty_bitmap_extents(b->db, b->size, 0, false, &e) < 0 || e.total != b->size)
        model_fail(d->model, d, 0, "bitmap %s of disk %u: no extents", b->name, d->index);
    for (size_t i = 0; i < e.count; i++) {
        uint64_t end = at + e.list[i].length;

        for (uint64_t g = at / b->granularity; g * b->granularity < end; g++)
            if (b->bits[g] != (e.list[i].flags == EXTENT_DIRTY) && (exact || b->bits[g]))
                model_fail(d->model, d, g * b->granularity,
                           "bitmap %s of disk %u: granule %" PRIu64 " of %u bytes is %s", b->name,
                           d->index, g, b->granularity, b->bits[g] ? "clean" : "dirty");
        if (end % b->granularity != 0 && end != b->size)
            model_fail(d->model, d, end, "bitmap %s of disk %u: extent ends at %" PRIu64, b->name,
                       d->index, end);
        at = end;
    }
    extents_free(&e);
}

/* `exact`: nobody writes, or it does not record. Else it may have more by now, never less. */
static void check_bitmap(struct model_disk *d, struct model_bitmap *b, bool exact)
{
    struct dirty_bitmap_info info;
    uint64_t count = 0;

    for (uint64_t g = 0; g < b->granules; g++)
        count += b->bits[g] ? b->granularity : 0;
    if (b->full)
        count = b->size;
    check_extents(d, b, exact);
    dirty_bitmap_info(b->db, &info);
    if (info.count < count || (exact && info.count > count))
        model_fail(d->model, d, 0, "bitmap %s of disk %u: count is %" PRIu64 ", not %" PRIu64,
                   b->name, d->index, info.count, count);
}

void model_bitmap_frozen(struct model_disk *d, struct model_bitmap *b)
{
    g_ptr_array_add(d->frozen, b);
    if (d->frozen->len > MAX_STILL)
        g_ptr_array_remove_index(d->frozen, 0);
}

void model_check_bitmaps(struct model_disk *d, bool all)
{
    g_autoptr(GPtrArray) real = disk_bitmaps(d->disk);

    for (unsigned i = 0; i < d->frozen->len; i++)
        check_bitmap(d, d->frozen->pdata[i], true);

    if (real->len != d->bitmaps->len)
        model_fail(d->model, d, 0, "disk %u has %u bitmaps, not %u", d->index, real->len,
                   d->bitmaps->len);
    for (unsigned i = 0; i < real->len; i++) {
        struct model_bitmap *b = d->bitmaps->pdata[i];
        struct dirty_bitmap_info info;

        dirty_bitmap_info(real->pdata[i], &info);
        if (real->pdata[i] != b->db || strcmp(dirty_bitmap_name(b->db), b->name) != 0 ||
            info.granularity != b->granularity || info.recording != b->recording ||
            info.busy != (b->busy > 0))
            model_fail(d->model, d, 0, "disk %u: bitmap %s is not as it should be: %s, %u%s%s",
                       d->index, b->name, dirty_bitmap_name(real->pdata[i]), info.granularity,
                       info.recording ? ", recording" : "", info.busy ? ", busy" : "");
        check_bitmap(d, b, all || !b->recording);
    }
}
