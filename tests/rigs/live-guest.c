/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-guest.h"

#include "common/base/file-io.h"
#include "common/live/live-commit.h"
#include "tests/rigs/live-storage.h"

#include <errno.h>
#include <string.h>

#define SECTOR 512u

struct live_version {
    uint8_t bytes[SECTOR];
};

/* ---- what a crash may leave ---- */

static const uint8_t *sector_of(const struct live_guest *g, uint64_t i)
{
    return g->disk + i * SECTOR;
}

static bool allowed(const struct live_guest *g, uint64_t i, const uint8_t *bytes)
{
    const GArray *versions = g->sectors[i];

    for (unsigned v = versions->len; v-- > 0;)
        if (memcmp(g_array_index(versions, struct live_version, v).bytes, bytes, SECTOR) == 0)
            return true;
    return false;
}

/* The sector may be as it is now, too. */
static void allow(struct live_guest *g, uint64_t i)
{
    if (!allowed(g, i, sector_of(g, i)))
        g_array_append_vals(g->sectors[i], sector_of(g, i), 1);
}

/* It may be as it is now, and not otherwise. */
static void promise(struct live_guest *g, uint64_t offset, uint64_t end)
{
    for (uint64_t i = offset / SECTOR; i * SECTOR < end; i++) {
        g_array_set_size(g->sectors[i], 0);
        allow(g, i);
    }
}

/* Of what it may be, only that which has these bytes of the disk as they are now. */
static void promise_bytes(struct live_guest *g, uint64_t offset, uint64_t end)
{
    for (uint64_t i = offset / SECTOR; i * SECTOR < end; i++) {
        uint64_t from = MAX(offset, i * SECTOR), to = MIN(end, (i + 1) * SECTOR);

        for (unsigned v = g->sectors[i]->len; v-- > 0;) {
            const uint8_t *bytes = g_array_index(g->sectors[i], struct live_version, v).bytes;

            if (memcmp(bytes + (from - i * SECTOR), g->disk + from, to - from) != 0)
                g_array_remove_index_fast(g->sectors[i], v);
        }
    }
}

static void allow_range(struct live_guest *g, uint64_t offset, uint64_t end)
{
    for (uint64_t i = offset / SECTOR; i * SECTOR < end; i++)
        allow(g, i);
}

static void make_sectors(struct live_guest *g, uint64_t from, uint64_t to)
{
    g->disk = g_realloc(g->disk, to);
    g->sectors = g_renew(GArray *, g->sectors, to / SECTOR);
    memset(g->disk + from, 0, to - from);
    for (uint64_t i = from / SECTOR; i < to / SECTOR; i++)
        g->sectors[i] = g_array_new(FALSE, FALSE, sizeof(struct live_version));
}

char *live_guest_judge(const struct live_guest *g, const uint8_t *disk, uint64_t size)
{
    if (size != g->size && size != g->size_before && size != g->size_failed)
        return g_strdup_printf("the disk has %" G_GUINT64_FORMAT " bytes", (guint64)size);
    for (uint64_t i = 0; i < MIN(size, g->size) / SECTOR; i++)
        if (!allowed(g, i, disk + i * SECTOR))
            return g_strdup_printf(
                "sector %" G_GUINT64_FORMAT
                " begins with %02x %02x %02x %02x and is none of %u versions, the "
                "last of which begins with %02x %02x %02x %02x",
                (guint64)i, disk[i * SECTOR], disk[i * SECTOR + 1], disk[i * SECTOR + 2],
                disk[i * SECTOR + 3], g->sectors[i]->len, g->disk[i * SECTOR],
                g->disk[i * SECTOR + 1], g->disk[i * SECTOR + 2], g->disk[i * SECTOR + 3]);
    for (uint64_t i = g->size; i < size; i++)
        if (disk[i])
            return g_strdup_printf("byte 0x%" G_GINT64_MODIFIER "x, where it has grown, is %02x", i,
                                   disk[i]);
    return NULL;
}

/* ---- opening and closing ---- */

static void open_image(struct live_guest *g)
{
    struct q2_error err = {0};

    g->image = live_open(g->path, &g->options, &err);
    if (!g->image && live_storage_failed()) {
        live_storage_fault(NULL);
        g->image = live_open(g->path, &g->options, &err);
    }
    if (!g->image)
        g_error("%s cannot be opened: %s", g->path, err.text);
    g_assert_cmpuint(live_size(g->image), ==, g->size);
}

void live_guest_begin(struct live_guest *g, const char *path, const struct live_options *options,
                      const uint8_t *disk, uint64_t size)
{
    memset(g, 0, sizeof(*g));
    g->path = g_strdup(path);
    g->options = *options;
    g->size = g->size_before = size;
    make_sectors(g, 0, size);
    memcpy(g->disk, disk, size);
    promise(g, 0, size);
    open_image(g);
}

int live_guest_close(struct live_guest *g)
{
    struct q2_error err = {0};
    int r;

    if (!g->image)
        return 0;
    r = live_close(g->image, &err);
    g_assert_true(r == 0 || err.text[0]);
    g->image = NULL;
    return r;
}

void live_guest_end(struct live_guest *g)
{
    for (uint64_t i = 0; i < g->size / SECTOR; i++)
        g_array_free(g->sectors[i], TRUE);
    g_free(g->sectors);
    g_free(g->disk);
    g_free(g->path);
}

/* ---- reading ---- */

static void check_bytes(const struct live_guest *g, const uint8_t *bytes, uint64_t offset,
                        size_t length, const char *how)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != g->disk[offset + i])
            g_error("%s: byte 0x%" G_GINT64_MODIFIER "x is %02x, and not %02x", how, offset + i,
                    bytes[i], g->disk[offset + i]);
}

/* Where live_map says that the bytes are. */
static void read_map(struct live_guest *g)
{
    uint8_t buffer[4096];
    uint64_t at = 0;

    while (at < g->size) {
        struct live_segment s = live_map(g->image, at, MIN(g->size - at, sizeof(buffer)), false);

        g_assert_cmpuint(s.length, >=, 1);
        g_assert_cmpuint(s.length, <=, MIN(g->size - at, sizeof(buffer)));
        if (s.place == LIVE_DATA) {
            g_assert_cmpint(pread_all(s.fd, buffer, s.length, s.host), ==, 0);
            check_bytes(g, buffer, at, s.length, "live_map, data");
        } else if (s.place == LIVE_ZERO) {
            memset(buffer, 0, sizeof(buffer));
            check_bytes(g, buffer, at, s.length, "live_map, zeroes");
        }
        at += s.length;
    }
}

/* A read that is made to fail is tried again. */
static void read_bytes(struct live_guest *g, uint8_t *bytes, uint64_t length, uint64_t offset)
{
    int r = live_pread(g->image, bytes, length, offset);

    if (r < 0 && live_storage_failed())
        r = live_pread(g->image, bytes, length, offset);
    if (r < 0)
        g_error("0x%" G_GINT64_MODIFIER "x+0x%" G_GINT64_MODIFIER "x cannot be read: %s", offset,
                length, g_strerror(-r));
}

void live_guest_read(struct live_guest *g)
{
    g_autofree uint8_t *bytes = g_malloc(g->size);

    read_bytes(g, bytes, g->size, 0);
    check_bytes(g, bytes, 0, g->size, "live_pread");
    read_map(g);
}

/* ---- steps ---- */

/* Bytes that no other write and no other place has (nearly). */
static void fill(struct live_guest *g, uint64_t offset, uint64_t length)
{
    uint32_t tag = ++g->step * 2654435761u;

    for (uint64_t i = offset; i < offset + length; i++)
        g->disk[i] = (uint8_t)((tag >> (i % 4 * 8)) + i / 4 * 7) | 1;
}

/* A step has failed: each byte is as before or as it was to become. */
static void adopt(struct live_guest *g, const uint8_t *before)
{
    uint64_t from = g->touched & ~(uint64_t)(SECTOR - 1);
    uint64_t to = MIN((g->touched_end + SECTOR - 1) & ~(uint64_t)(SECTOR - 1), g->size);
    g_autofree uint8_t *bytes = g_malloc(to - from + 1);

    read_bytes(g, bytes, to - from, from);
    for (uint64_t i = from; i < to; i++)
        if (bytes[i - from] != g->disk[i] && bytes[i - from] != before[i])
            g_error("after a failure: byte 0x%" G_GINT64_MODIFIER "x is %02x, not %02x or %02x", i,
                    bytes[i - from], before[i], g->disk[i]);
    memcpy(g->disk + from, bytes, to - from);
    allow_range(g, from, to);
}

static int do_write(struct live_guest *g, const struct live_step *s)
{
    fill(g, s->offset, s->length);
    allow_range(g, s->offset, s->offset + s->length);
    return live_pwrite(g->image, g->disk + s->offset, s->length, s->offset, s->flags);
}

static int do_zero(struct live_guest *g, const struct live_step *s)
{
    memset(g->disk + s->offset, 0, s->length);
    allow_range(g, s->offset, s->offset + s->length);
    return live_zero(g->image, s->length, s->offset, s->flags);
}

/* What a trim leaves is seen afterwards. */
static int do_trim(struct live_guest *g, const struct live_step *s, const uint8_t *before)
{
    int r;

    memset(g->disk + s->offset, 0, s->length);
    allow_range(g, s->offset, s->offset + s->length);
    r = live_trim(g->image, s->length, s->offset, s->flags);
    adopt(g, before);
    return r;
}

static int do_resize(struct live_guest *g, const struct live_step *s)
{
    uint64_t old = g->size, size = old + s->length;
    int r = live_resize(g->image, size);

    if (live_size(g->image) == size) {
        g->size_before = old;
        make_sectors(g, old, size);
        g->size = size;
        promise(g, old, size);
    }
    if (r < 0)
        g->size_failed = size;
    g_assert_cmpuint(live_size(g->image), ==, g->size);
    return r;
}

static int do_step(struct live_guest *g, const struct live_step *s, const uint8_t *before)
{
    switch (s->kind) {
    case LIVE_STEP_WRITE:
        return do_write(g, s);
    case LIVE_STEP_ZERO:
        return do_zero(g, s);
    case LIVE_STEP_TRIM:
        return do_trim(g, s, before);
    case LIVE_STEP_FLUSH:
        return live_flush(g->image);
    case LIVE_STEP_RESIZE:
        return do_resize(g, s);
    case LIVE_STEP_WRITE_BACK:
        return live_write_back(g->image);
    default:
        return live_guest_close(g) < 0 ? -EIO : 0;
    }
}

int live_guest_do(struct live_guest *g, const struct live_step *s)
{
    g_autofree uint8_t *before = g_memdup2(g->disk, g->size);
    int r;

    g->touched = s->offset;
    g->touched_end = s->offset + s->length;
    r = do_step(g, s, before);
    if (r < 0 && (s->kind == LIVE_STEP_WRITE || s->kind == LIVE_STEP_ZERO)) {
        if (r == -ENOTSUP) { /* nothing has changed */
            memcpy(g->disk + s->offset, before + s->offset, s->length);
            g_assert_true(s->flags & LIVE_FAST);
        }
        adopt(g, before);
    }
    if (g->image)
        live_guest_read(g);
    return r;
}

void live_guest_done(struct live_guest *g, const struct live_step *s, int result)
{
    bool all = s->kind == LIVE_STEP_FLUSH || s->kind == LIVE_STEP_REOPEN;

    if (result == 0 && all)
        promise(g, 0, g->size);
    else if (result == 0 && (s->flags & LIVE_FUA))
        promise_bytes(g, s->offset, s->offset + s->length);
    if (result == 0 && (all || s->kind == LIVE_STEP_RESIZE))
        g->size_before = g->size;
    if (s->kind == LIVE_STEP_REOPEN && result == 0) {
        open_image(g);
        live_guest_read(g);
    }
}

char *live_step_describe(const struct live_step *s)
{
    static const char *const names[] = {
        [LIVE_STEP_WRITE] = "write",   [LIVE_STEP_ZERO] = "zero",
        [LIVE_STEP_TRIM] = "trim",     [LIVE_STEP_FLUSH] = "flush",
        [LIVE_STEP_RESIZE] = "resize", [LIVE_STEP_WRITE_BACK] = "write back",
        [LIVE_STEP_REOPEN] = "reopen",
    };

    return g_strdup_printf("%s 0x%" G_GINT64_MODIFIER "x+0x%" G_GINT64_MODIFIER "x%s%s%s",
                           names[s->kind], s->offset, s->length, s->flags & LIVE_FUA ? " fua" : "",
                           s->flags & LIVE_MAY_TRIM ? " may-trim" : "",
                           s->flags & LIVE_FAST ? " fast" : "");
}
