/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-check-private.h"

#include <string.h>

#define SLICE         4096
#define TABLES_MEMORY (64U << 10)
#define REFS_MEMORY   (1U << 20)

static size_t slice_bytes(const struct q2_image *image)
{
    size_t cluster = (size_t)1 << image->geometry.cluster_bits;

    return cluster < SLICE ? cluster : SLICE;
}

int q2_check_init(struct q2_check *c)
{
    const struct q2_image *image = c->image;
    unsigned bits = image->geometry.cluster_bits;
    uint64_t clusters = (image->file.size >> bits) + !!(image->file.size & ((1U << bits) - 1));
    size_t slice = slice_bytes(image);

    if (q2_counts_init(&c->counts, clusters, c->err) < 0 ||
        q2_counts_init(&c->uses, clusters, c->err) < 0 ||
        q2_counts_init(&c->walked, clusters, c->err) < 0 ||
        q2_slices_init(&c->tables, &image->file, slice, TABLES_MEMORY, c->err) < 0 ||
        q2_slices_init(&c->refcounts, &image->file, slice, REFS_MEMORY, c->err) < 0)
        return -1;
    return 0;
}

void q2_check_clear(struct q2_check *c)
{
    q2_counts_clear(&c->counts);
    q2_counts_clear(&c->uses);
    q2_counts_clear(&c->walked);
    q2_slices_clear(&c->tables);
    q2_slices_clear(&c->refcounts);
}

int q2_check_references(struct q2_check *c)
{
    const struct q2_header *h = &c->image->header;
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    if (q2_check_use(c, Q2_USE_ALONE, 0, cluster, "the header") < 0 ||
        q2_check_l1(c, h->l1_offset, h->l1_size, true) < 0 || q2_check_snapshots(c) < 0 ||
        q2_check_bitmaps(c) < 0)
        return -1;
    return 0;
}

int q2_image_check(struct q2_image *image, uint64_t *leaks, uint64_t *corruptions,
                   struct q2_error *err)
{
    return q2_image_check_watched(image, NULL, NULL, leaks, corruptions, err);
}

int q2_image_check_watched(struct q2_image *image, int (*watch)(void *opaque), void *opaque,
                           uint64_t *leaks, uint64_t *corruptions, struct q2_error *err)
{
    struct q2_check c = {.image = image, .err = err, .watch = watch, .opaque = opaque};
    int r;

    *leaks = *corruptions = 0;
    if (err)
        memset(err, 0, sizeof(*err));
    if (image->raw)
        return 0;
    r = q2_check_init(&c) < 0 || q2_check_references(&c) < 0 || q2_check_ref_blocks(&c) < 0 ||
                q2_check_compare(&c) < 0
            ? -1
            : 0;
    q2_check_clear(&c);
    if (r < 0)
        return -1;
    *leaks = c.leaks;
    *corruptions = c.corruptions;
    if (err)
        *err = c.first;
    return 0;
}
