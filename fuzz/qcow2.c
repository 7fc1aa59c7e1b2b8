/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qcow2: q2_header_parse, and q2_image_open, _extent, _pread and _check of whole files. Nothing in a
 * file is believed: extents lie in the disk and in the file, all of a disk is one kind or another,
 * reads in pieces agree, and what a check calls clean can be read, as long as nothing is compressed.
 * And q2_image_repair: what it calls repaired is clean, and the disk is what it was; what it refuses is not
 * changed.
 *
 * Input: a byte that says which; 0: the bytes of a header. Else a file (image.h).
 */
#include "fuzz/image.h"

#include "common/qcow2/q2-bitmaps.h"
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-repair.h"
#include "common/qcow2/q2-snapshots.h"

#include <glib.h>
#include <limits.h>
#include <string.h>

const char fuzz_name[] = "qcow2";

#define MAX_EXTENTS 500
#define MAX_READ    4096

static void fuzz_header(struct supply *s)
{
    size_t length = supply_left(s);
    struct q2_error err = {0};
    struct q2_header h;

    if (q2_header_parse(s->at, length, UINT32_MAX, &h, &err) < 0) {
        CHECK(err.text[0]);
        return;
    }
    CHECK(h.version == 2 || h.version == 3);
    CHECK(h.cluster_bits >= 9 && h.cluster_bits <= 21 && h.refcount_order <= 6);
    CHECK(memchr(h.backing, 0, sizeof(h.backing)) && memchr(h.data_file, 0, sizeof(h.data_file)));
    CHECK(memchr(h.backing_format, 0, sizeof(h.backing_format)));
    CHECK(h.l1_size <= 4 << 20 && h.l1_offset + h.l1_size * UINT64_C(8) <= UINT32_MAX);
    CHECK(h.crypt_method == 0 && (h.incompatible & ~UINT64_C(31)) == 0);
    CHECK(!(h.incompatible & Q2_INCOMPATIBLE_DATA_FILE) == !h.data_file[0]);
}

/* Read a range at once and in two pieces, which agree. False: it cannot be read. */
static bool read_range(struct q2_reader *r, uint64_t offset, size_t length, bool zero)
{
    g_autofree uint8_t *whole = g_malloc(length), *pieces = g_malloc(length);
    struct q2_error err = {0};
    size_t half = length / 3;

    if (q2_image_pread(r, whole, length, offset, &err) < 0) {
        CHECK(err.text[0]);
        return false;
    }
    CHECK(q2_image_pread(r, pieces, half, offset, &err) == 0);
    CHECK(q2_image_pread(r, pieces + half, length - half, offset + half, &err) == 0);
    CHECK(memcmp(whole, pieces, length) == 0);
    for (size_t i = 0; zero && i < length; i++)
        CHECK(whole[i] == 0);
    return true;
}

static unsigned chain_length(struct q2_image *image)
{
    unsigned n = 0;

    for (; image; image = q2_image_backing(image))
        n++;
    return n;
}

/* Where it is said to be in the image's files that are not the image itself is the same without them. */
static void check_depth(struct q2_reader *r, uint64_t offset, const struct q2_extent *e)
{
    struct q2_extent top;

    CHECK(q2_image_extent(r, offset, e->length, 0, &top, NULL) == 0);
    CHECK(top.length <= e->length || e->depth > 0);
    if (e->depth == 0)
        CHECK(top.kind == e->kind && top.host == e->host);
    else
        CHECK(top.kind == Q2_UNALLOCATED);
}

/* Walk over the disk. False: something cannot be read, and is not compressed. */
static bool walk(struct q2_image *image, struct q2_reader *r)
{
    uint64_t size = q2_image_size(image), offset = 0;
    struct q2_error err = {0};
    bool good = true;

    for (unsigned i = 0; offset < size && i < MAX_EXTENTS; i++) {
        struct q2_extent e;
        size_t length;

        if (q2_image_extent(r, offset, size - offset, UINT_MAX, &e, &err) < 0) {
            CHECK(err.text[0]);
            CHECK(!read_range(r, offset, 1, false));
            good = false;
            offset += FUZZ_SECTOR;
            continue;
        }
        CHECK(e.length > 0 && e.length <= size - offset);
        CHECK(e.kind != Q2_INVALID && e.depth < chain_length(image));
        check_depth(r, offset, &e);
        length = MIN(e.length, (size_t)MAX_READ);
        CHECK(read_range(r, offset, length, e.kind == Q2_ZERO || e.kind == Q2_UNALLOCATED) ||
              e.kind == Q2_COMPRESSED);
        offset += e.length;
    }
    return good;
}

static void fuzz_lists(const struct q2_image *image)
{
    struct q2_snapshots snapshots;
    struct q2_bitmaps bitmaps;
    struct q2_error err = {0};

    CHECK(q2_snapshots_read(&snapshots, &image->file, &image->header, &err) == 0 || err.text[0]);
    for (uint32_t i = 0; !err.text[0] && i < snapshots.n; i++)
        CHECK(q2_snapshots_find(&snapshots, snapshots.at[i].id));
    q2_snapshots_clear(&snapshots);
    err.text[0] = 0;
    CHECK(q2_bitmaps_read(&bitmaps, &image->file, &image->header, &err) == 0 || err.text[0]);
    for (uint32_t i = 0; !err.text[0] && i < bitmaps.n; i++)
        CHECK(bitmaps.at[i].name[0] && bitmaps.at[i].granularity_bits <= 31);
    q2_bitmaps_clear(&bitmaps);
}

/* ---- repair ---- */

/* The image alone, opened for writing. */
static struct q2_image *open_alone(void)
{
    struct q2_open_options o = {
        .references = Q2_REFERENCES_FOLDER, .alone = true, .writable = true};

    return q2_image_open_with(fuzz_image_path(), &o, NULL);
}

/* A sample of the disk: a number that follows from it, and from what cannot be read. */
static uint64_t sample(void)
{
    struct q2_image *image = open_alone();
    struct q2_reader *r = q2_reader_new(image, NULL);
    uint64_t size = q2_image_size(image), hash = 5381;
    uint8_t bytes[FUZZ_SECTOR];

    CHECK(r);
    for (uint64_t i = 0; size > 0 && i < 64; i++) {
        uint64_t offset = size / FUZZ_SECTOR * i / 64 * FUZZ_SECTOR;

        if (q2_image_pread(r, bytes, sizeof(bytes), offset, NULL) < 0)
            memset(bytes, 0xee, sizeof(bytes));
        for (unsigned k = 0; k < sizeof(bytes); k++)
            hash = hash * 33 + bytes[k];
    }
    q2_reader_free(r);
    q2_image_close(image);
    return hash;
}

static void assert_clean(void)
{
    struct q2_image *image = open_alone();
    uint64_t leaks, corruptions;

    CHECK(image);
    CHECK(q2_image_check(image, &leaks, &corruptions, NULL) == 0);
    CHECK(leaks == 0 && corruptions == 0);
    q2_image_close(image);
}

static void fuzz_repair(enum q2_repair_what what)
{
    g_autofree char *before = NULL, *after = NULL;
    struct q2_image *image = open_alone();
    struct q2_repaired done;
    struct q2_error err;
    uint64_t is;
    gsize old, now;
    int result;

    if (!image)
        return;
    is = sample();
    CHECK(g_file_get_contents(fuzz_image_path(), &before, &old, NULL));
    result = q2_image_repair(image, what, &done, &err);
    q2_image_close(image);
    CHECK(g_file_get_contents(fuzz_image_path(), &after, &now, NULL));
    CHECK(now <= 4 * old + (16 << 21));
    if (result == 0)
        assert_clean();
    else
        CHECK(err.text[0] && !done.changed && old == now && memcmp(before, after, old) == 0);
    CHECK(sample() == is);
}

static void fuzz_image(void)
{
    uint64_t leaks, corruptions;
    struct q2_error err = {0};
    struct q2_image *image;
    struct q2_reader *r;
    bool good;

    image = q2_image_open(fuzz_image_path(), Q2_REFERENCES_FOLDER, &err);
    if (!image) {
        CHECK(err.text[0]);
        return;
    }
    r = q2_reader_new(image, &err);
    CHECK(r);
    good = walk(image, r);
    CHECK(q2_image_check(image, &leaks, &corruptions, &err) == 0);
    CHECK(!corruptions == !err.text[0]);
    CHECK(good || corruptions > 0);
    fuzz_lists(image);
    q2_reader_free(r);
    q2_image_close(image);
    fuzz_repair(Q2_REPAIR_LEAKS);
    fuzz_repair(Q2_REPAIR_ALL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);

    if (take_u8(&s) == 0) {
        fuzz_header(&s);
        return 0;
    }
    fuzz_image_make(&s, UINT_MAX);
    fuzz_image();
    return 0;
}
