/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Growing a disk.
 *
 * The header's size is what counts, and is written last. All that the larger disk needs is durable
 * before: an L1 table that is long enough, and zeroes behind the old end, where there may be
 * something: in the rest of the last cluster, in tables of a disk that was larger once, in a longer
 * backing file. A crash before the size is durable leaves a longer table, and zeroes that nobody sees.
 *
 * Nobody changes the disk meanwhile, and the thread stands still. It may be read and flushed: readers find the
 * old size, or the new one with all that it needs.
 */
#include "common/base/cursor.h"
#include "common/live/live-commit.h"
#include "common/live/live-header.h"
#include "common/live/live-reserve.h"
#include "common/live/live-slices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define L1_MOST  ((32 << 20) / 8) /* entries */
#define PIECE    8192             /* words that are read and written at once */
#define RESTARTS 64

/* An L1 table that will be, and where it lies. */
struct table {
    uint64_t *words;
    uint64_t entries;
    uint64_t offset;
};

static uint64_t tables_for(const struct live_layer *l, uint64_t size)
{
    uint64_t span = q2_table_span(&l->geometry);

    return size / span + (size % span != 0);
}

static uint64_t clusters_for(const struct live_layer *l, uint64_t entries)
{
    return (entries * 8 + l->cluster - 1) / l->cluster;
}

/* ---- the L1 table ---- */

/* Entries that the file has, but the disk did not need: of one that was larger once. */
static int read_words(struct live_layer *l, const struct table *t, uint64_t first, uint64_t end)
{
    uint8_t piece[PIECE * 8];

    while (first < end) {
        uint64_t n = end - first < PIECE ? end - first : PIECE;
        int r = live_file_pread(&l->file, piece, n * 8, t->offset + first * 8);

        if (r < 0)
            return r;
        for (uint64_t i = 0; i < n; i++)
            t->words[first + i] = load_be64(piece + i * 8);
        first += n;
    }
    return 0;
}

static int write_words(struct live_layer *l, const struct table *t, uint64_t first, uint64_t end)
{
    uint8_t piece[PIECE * 8];

    while (first < end) {
        uint64_t n = end - first < PIECE ? end - first : PIECE;
        int r;

        for (uint64_t i = 0; i < n; i++)
            store_be64(piece + i * 8, t->words[first + i]);
        r = live_file_pwrite(&l->file, piece, n * 8, t->offset + first * 8);
        if (r < 0)
            return r;
        first += n;
    }
    return live_file_sync(&l->file);
}

/* Take clusters that follow each other. The reserve's batches grow while they are used up, so that one of them is large
 * enough in the end. */
static int take_run(struct live_image *image, uint64_t n, uint64_t *host)
{
    uint64_t got = 0, cluster = image->top->cluster, next;
    unsigned restarts = 0;

    while (got < n) {
        int r = live_reserve_take_table(image, &next);

        if (r >= 0 && got && next != *host + got * cluster && ++restarts > RESTARTS)
            r = -ENOSPC;
        if (got && (r < 0 || next != *host + got * cluster)) {
            live_reserve_drop(image, *host, (unsigned)got);
            got = 0;
        }
        if (r < 0)
            return r;
        if (got++ == 0)
            *host = next;
    }
    return 0;
}

/* A longer table elsewhere, which is durable before the header leads to it. */
static int move_table(struct live_image *image, struct table *t)
{
    uint64_t old = t->offset, n_old = clusters_for(image->top, image->header.l1_size);
    uint64_t n = clusters_for(image->top, t->entries);
    int r = take_run(image, n, &t->offset);

    if (r < 0)
        return r;
    r = write_words(image->top, t, 0, t->entries);
    if (r == 0)
        r = live_header_set_l1(image, t->offset, (uint32_t)t->entries);
    if (r < 0)
        live_reserve_drop(image, t->offset, (unsigned)n);
    else if (n_old)
        live_reserve_drop(image, old, (unsigned)n_old);
    return r;
}

/* The rest of the table's last cluster is the table's, too, but may have anything in it. */
static int lengthen_table(struct live_image *image, const struct table *t)
{
    int r = write_words(image->top, t, image->header.l1_size, t->entries);

    return r < 0 ? r : live_header_set_l1(image, t->offset, (uint32_t)t->entries);
}

static int grow_in_file(struct live_image *image, struct table *t)
{
    struct live_layer *l = image->top;
    uint64_t has = image->header.l1_size;
    int r = read_words(l, t, l->l1_entries, has < t->entries ? has : t->entries);

    if (r < 0 || t->entries <= has)
        return r;
    return clusters_for(l, t->entries) > clusters_for(l, has) ? move_table(image, t)
                                                              : lengthen_table(image, t);
}

static int grow_l1(struct live_image *image, uint64_t entries)
{
    struct live_layer *l = image->top;
    struct table t = {.entries = entries, .offset = l->l1_offset};
    int r;

    if (entries <= l->l1_entries)
        return 0;
    t.words = calloc(entries, sizeof(*t.words));
    if (!t.words)
        return -ENOMEM;
    for (uint64_t i = 0; i < l->l1_entries; i++)
        t.words[i] = l->l1[i];
    r = grow_in_file(image, &t);
    if (r == 0) {
        r = live_slices_set_l1(l, t.words, t.entries, t.offset);
        /* The table in memory is not the file's any more. */
        if (r < 0)
            atomic_store(&image->broken, r);
    }
    free(t.words);
    return r;
}

/* ---- zeroes behind the old end ---- */

/* Up to where something may be that does not read as zeroes. */
static uint64_t end_of_rest(const struct live_layer *l, uint64_t old, uint64_t size)
{
    uint64_t span = q2_table_span(&l->geometry), tables = tables_for(l, old), end;

    for (uint64_t i = tables; i < l->l1_entries; i++)
        if (l->l1[i])
            tables = i + 1;
    end = tables * span;
    if (l->backing && l->backing->size > end)
        end = l->backing->size;
    return end < size ? end : size;
}

static int zero_rest(struct live_image *image, uint64_t old, uint64_t size)
{
    uint64_t end = end_of_rest(image->top, old, size);

    return end > old ? live_zero(image, end - old, old, LIVE_MAY_TRIM) : 0;
}

/* ---- a raw data file ---- */

/* It is a disk of its own, which has the same size and the same content. */
static bool has_raw_data_file(const struct live_image *image)
{
    return image->top->data.fd >= 0 && (image->header.autoclear & Q2_AUTOCLEAR_RAW_DATA_FILE);
}

/* The first byte from `at` on that is not in a hole, at most `end`. */
static uint64_t skip_hole(const struct live_file *f, uint64_t at, uint64_t end)
{
    off_t data = lseek(f->fd, (off_t)at, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? end : at;
    return (uint64_t)data < end ? (uint64_t)data : end;
}

/* A longer one may be somebody's, to whom an image has been given that names it: what is behind the end of the
 * disk is left alone, unless it is zeroes. */
static int check_data_file(struct live_image *image, uint64_t old, uint64_t size)
{
    static const uint8_t zeroes[PIECE * 8];
    struct live_file *f = &image->top->data;
    uint64_t there = f->size, end = there < size ? there : size;
    uint8_t piece[PIECE * 8];

    if (!has_raw_data_file(image))
        return 0;
    for (uint64_t at = skip_hole(f, old, end); at < end; at = skip_hole(f, at, end)) {
        size_t n = end - at < sizeof(piece) ? (size_t)(end - at) : sizeof(piece);
        int r = live_file_pread(f, piece, n, at);

        if (r == 0 && memcmp(piece, zeroes, n) != 0)
            r = -EEXIST;
        if (r < 0)
            return r;
        at += n;
    }
    return 0;
}

/* What is behind the old end is zeroes (check_data_file), which need not be durable yet. */
static int grow_data_file(struct live_image *image, uint64_t old, uint64_t size)
{
    struct live_file *f = &image->top->data;
    uint64_t there = f->size;
    int r = 0;

    if (!has_raw_data_file(image))
        return 0;
    if (there > old)
        r = live_file_sync(f);
    return r == 0 && there < size ? live_file_extend(f, size) : r;
}

/* ---- in order ---- */

static int grow(struct live_image *image, uint64_t old, uint64_t size)
{
    struct live_layer *l = image->top;
    int r = check_data_file(image, old, size);

    if (r == 0)
        r = live_commit(image);
    if (r == 0)
        r = grow_l1(image, tables_for(l, size));
    if (r == 0)
        r = grow_data_file(image, old, size);
    if (r < 0)
        return r;
    /* What is behind the old end can be changed from here on. */
    l->size = size;
    r = zero_rest(image, old, size);
    if (r == 0)
        r = live_commit(image);
    if (r == 0)
        r = live_header_set_size(image, size);
    if (r < 0)
        l->size = old;
    return r;
}

static int check(const struct live_image *image, uint64_t size)
{
    const struct live_layer *l = image->top;

    if (!l->writable)
        return -EROFS;
    if (size < l->size)
        return -ENOTSUP;
    if (size % 512)
        return -EINVAL;
    if (size > INT64_MAX || tables_for(l, size) > L1_MOST)
        return -EFBIG;
    return atomic_load(&image->broken);
}

int live_resize(struct live_image *image, uint64_t size)
{
    int r = check(image, size);

    if (r < 0 || size == image->top->size)
        return r;
    live_worker_pause(image);
    r = grow(image, image->top->size, size);
    live_worker_resume(image);
    return r;
}

const char *live_resize_why(int error)
{
    if (error == -ENOTSUP)
        return "a qcow2 image cannot become smaller here";
    if (error == -EEXIST)
        return "its raw data file is longer than the disk, and what is there would be lost: cut it "
               "off first";
    return strerrordesc_np(-error);
}
