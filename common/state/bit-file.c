/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/bit-file.h"

#include "common/state/folder.h"
#include "common/state/storage-dir.h"
#include "common/util/error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define PAGE   BIT_PAGE
#define MAGIC  "nbdfleece bits\n"
#define FORMAT 1u /* its version */
#define PIECE  ((size_t)1 << 20)

/* The first page. What follows this in it is zeroes. Numbers are little-endian. */
struct header {
    char magic[16]; /* with its NUL */
    uint32_t version;
    uint32_t crc;  /* of the page, where this is 0 */
    char uuid[40]; /* padded with NULs */
    uint64_t size;
    uint32_t granularity;
    uint32_t zero;
};

_Static_assert(sizeof(struct header) == 80, "no padding");

struct bit_file {
    struct storage *s;
    struct storage_file *file;
    char uuid[37];
    uint64_t size;
    uint32_t granularity;
};

/* ---- the format ---- */

size_t bit_file_map_length(uint64_t size, uint32_t granularity)
{
    uint64_t bytes = bitmap_words(size, granularity) * 8;

    return (size_t)MAX((bytes + PAGE - 1) / PAGE, 1) * PAGE;
}

static uint64_t file_length(const struct bit_file *f)
{
    return PAGE + bit_file_map_length(f->size, f->granularity);
}

static uint32_t crc_of(uint32_t crc, const void *bytes, size_t length)
{
    return (uint32_t)crc32(crc, bytes, (uInt)length);
}

static void make_header(const struct bit_file *f, uint8_t page[static PAGE])
{
    struct header h = {.magic = MAGIC,
                       .version = GUINT32_TO_LE(FORMAT),
                       .size = GUINT64_TO_LE(f->size),
                       .granularity = GUINT32_TO_LE(f->granularity)};

    memcpy(h.uuid, f->uuid, sizeof f->uuid);
    memset(page, 0, PAGE);
    memcpy(page, &h, sizeof h);
    h.crc = GUINT32_TO_LE(crc_of(0, page, PAGE));
    memcpy(page, &h, sizeof h);
}

/* What is wrong with a page that is not the header that it should be. */
static const char *judge_header(const struct bit_file *f, uint8_t page[static PAGE])
{
    struct header h;
    uint32_t crc;

    memcpy(&h, page, sizeof h);
    if (memcmp(h.magic, MAGIC, sizeof h.magic) != 0)
        return "this is no file of bits, or it is damaged";
    crc = GUINT32_FROM_LE(h.crc);
    h.crc = 0;
    memcpy(page, &h, sizeof h);
    if (crc != crc_of(0, page, PAGE))
        return "its header is damaged";
    if (GUINT32_FROM_LE(h.version) != FORMAT)
        return "it was made by another version";
    if (memcmp(h.uuid, f->uuid, sizeof f->uuid) != 0)
        return "it has the bits of another bitmap";
    return "it has bits for another size or granularity";
}

bool bits_are_zero(const void *words, size_t length)
{
    const uint8_t *bytes = words;

    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* ---- errors ---- */

static int fail_file(struct bit_file *f, const char *doing, int error, GError **err)
{
    return storage_fail(f->s, f->file->name, doing, error, err);
}

static int fail_damaged(struct bit_file *f, const char *what, GError **err)
{
    return fail(err, "state: %s/%s: %s", f->s->path, f->file->name, what);
}

/* ---- making and opening ---- */

static char *name_of(const char *uuid)
{
    return g_strdup_printf(STATE_BITS "/%s", uuid);
}

static struct bit_file *new_file(struct storage *s, const char *uuid, uint64_t size,
                                 uint32_t granularity, GError **err)
{
    struct bit_file *f;

    if (G_BYTE_ORDER != G_LITTLE_ENDIAN) {
        fail(err, "state: %s: bitmaps are kept on little-endian machines only", s->path);
        return NULL;
    }
    /* It becomes part of a file's name. */
    if (!g_uuid_string_is_valid(uuid)) {
        fail(err, "state: %s: '%s' is no UUID", s->path, uuid);
        return NULL;
    }
    if (size > INT64_MAX || granularity < BITMAP_MIN_GRANULARITY ||
        (granularity & (granularity - 1)) != 0) {
        fail(err, "state: %s: no bitmap has the size %" PRIu64 " and the granularity %" PRIu32,
             s->path, size, granularity);
        return NULL;
    }
    f = g_new0(struct bit_file, 1);
    f->s = s;
    g_strlcpy(f->uuid, uuid, sizeof f->uuid);
    f->size = size;
    f->granularity = granularity;
    return f;
}

/* The folder for bits is made with the first file in it. */
static int make_file(struct bit_file *f, const char *name, GError **err)
{
    int error = f->s->ops->open(f->s, name, true, &f->file);

    if (error == -ENOENT) {
        error = f->s->ops->make_folder(f->s, STATE_BITS);
        if (error == 0)
            error = f->s->ops->sync_names(f->s, "");
        if (error < 0)
            return storage_fail(f->s, STATE_BITS, "make the folder", error, err);
        error = f->s->ops->open(f->s, name, true, &f->file);
    }
    return error < 0 ? storage_fail(f->s, name, "make it", error, err) : 0;
}

static int fill_file(struct bit_file *f, GError **err)
{
    uint8_t page[PAGE];
    int error = f->s->ops->reserve(f->file, file_length(f));

    if (error < 0)
        return fail_file(f, "reserve room", error, err);
    make_header(f, page);
    error = f->s->ops->write(f->file, page, PAGE, 0);
    return error < 0 ? fail_file(f, "write", error, err) : 0;
}

struct bit_file *bit_file_create(struct storage *s, const char *uuid, uint64_t size,
                                 uint32_t granularity, GError **err)
{
    struct bit_file *f = new_file(s, uuid, size, granularity, err);
    g_autofree char *name = name_of(uuid);

    if (!f)
        return NULL;
    if (make_file(f, name, err) < 0) {
        g_free(f);
        return NULL;
    }
    if (fill_file(f, err) < 0) {
        bit_file_close(f);
        s->ops->unlink(s, name); /* an orphan does no harm */
        return NULL;
    }
    return f;
}

/* The bits after the last granule have to be 0 (bitmap_alloc_over). Others are damage. */
static int check_tail(struct bit_file *f, GError **err)
{
    uint64_t granules = f->size / f->granularity + (f->size % f->granularity != 0);
    size_t length = bit_file_map_length(f->size, f->granularity);
    uint64_t first = (length - PAGE) * UINT64_C(8); /* the number of the last page's first bit */
    uint64_t used = granules > first ? granules - first : 0;
    uint64_t last[PAGE / 8];
    int error = f->s->ops->read(f->file, last, PAGE, length);

    if (error < 0)
        return fail_file(f, "read", error, err);
    memset(last, 0, used / 64 * 8);
    if (used % 64 != 0)
        last[used / 64] &= ~UINT64_C(0) << used % 64;
    return bits_are_zero(last, PAGE) ? 0 : fail_damaged(f, "there are bits behind its end", err);
}

static int check_file(struct bit_file *f, GError **err)
{
    uint8_t expected[PAGE], found[PAGE];
    uint64_t length;
    int error = f->s->ops->size(f->file, &length);

    if (error < 0)
        return fail_file(f, "stat", error, err);
    if (length < PAGE)
        return fail_damaged(f, "it is cut short", err);
    error = f->s->ops->read(f->file, found, PAGE, 0);
    if (error < 0)
        return fail_file(f, "read", error, err);
    make_header(f, expected);
    if (memcmp(expected, found, PAGE) != 0)
        return fail_damaged(f, judge_header(f, found), err);
    if (length != file_length(f))
        return fail_damaged(f, length < file_length(f) ? "it is cut short" : "it is too long", err);
    return check_tail(f, err);
}

struct bit_file *bit_file_open(struct storage *s, const char *uuid, uint64_t size,
                               uint32_t granularity, GError **err)
{
    struct bit_file *f = new_file(s, uuid, size, granularity, err);
    g_autofree char *name = name_of(uuid);
    int error;

    if (!f)
        return NULL;
    error = s->ops->open(s, name, false, &f->file);
    if (error < 0) {
        if (error == -ENOENT)
            fail(err, "state: %s/%s: it is missing", s->path, name);
        else
            storage_fail(s, name, "open", error, err);
        g_free(f);
        return NULL;
    }
    if (check_file(f, err) < 0) {
        bit_file_close(f);
        return NULL;
    }
    return f;
}

void bit_file_close(struct bit_file *f)
{
    f->s->ops->close(f->file);
    g_free(f);
}

int bit_file_remove(struct storage *s, const char *uuid, GError **err)
{
    g_autofree char *name = name_of(uuid);
    int error;

    if (!g_uuid_string_is_valid(uuid))
        return fail(err, "state: %s: '%s' is no UUID", s->path, uuid);
    error = s->ops->unlink(s, name);
    return error < 0 && error != -ENOENT ? storage_fail(s, name, "unlink", error, err) : 0;
}

/* ---- using ---- */

const char *bit_file_uuid(const struct bit_file *f)
{
    return f->uuid;
}

uint64_t *bit_file_map(struct bit_file *f, void *at, GError **err)
{
    void *mapped;
    int error =
        f->s->ops->map(f->file, PAGE, bit_file_map_length(f->size, f->granularity), at, &mapped);

    if (error < 0) {
        fail_file(f, "map", error, err);
        return NULL;
    }
    return mapped;
}

int bit_file_fd(struct bit_file *f)
{
    return storage_dir_fd(f->file);
}

int bit_file_read(struct bit_file *f, void *words, size_t length, uint64_t at, GError **err)
{
    int error = f->s->ops->read(f->file, words, length, PAGE + at);

    return error < 0 ? fail_file(f, "read", error, err) : 0;
}

int bit_file_write(struct bit_file *f, const void *words, size_t length, uint64_t at, GError **err)
{
    int error = f->s->ops->write(f->file, words, length, PAGE + at);

    return error < 0 ? fail_file(f, "write", error, err) : 0;
}

/* At the end of the file there is a hole in any case; where it was cut short, that is no proof. */
bool bit_file_has_hole(struct bit_file *f, size_t length, uint64_t at)
{
    int fd = bit_file_fd(f);
    off_t data = fd < 0 ? 0 : lseek(fd, (off_t)(PAGE + at), SEEK_DATA);

    if (fd < 0 || (data < 0 && errno != ENXIO) || (data >= 0 && data < (off_t)(PAGE + at + length)))
        return false;
    return bit_file_check_length(f, NULL) == 0;
}

/* The pages that are not zero. */
static int write_piece(struct bit_file *f, const uint64_t *words, size_t length, uint64_t at,
                       GError **err)
{
    for (size_t p = 0; p < length; p += PAGE)
        if (!bits_are_zero(words + p / 8, PAGE) &&
            bit_file_write(f, words + p / 8, PAGE, at + p, err) < 0)
            return -1;
    return 0;
}

int bit_file_add(struct bit_file *to, struct bit_file *from, GError **err)
{
    const size_t length = bit_file_map_length(to->size, to->granularity);
    g_autofree uint64_t *all = g_malloc(MIN(length, PIECE));
    g_autofree uint64_t *more = g_malloc(MIN(length, PIECE));

    for (size_t at = 0; at < length; at += PIECE) {
        size_t n = MIN(length - at, PIECE);

        if (bit_file_read(to, all, n, at, err) < 0 || bit_file_read(from, more, n, at, err) < 0)
            return -1;
        for (size_t i = 0; i < n / 8; i++)
            all[i] |= more[i];
        if (write_piece(to, all, n, at, err) < 0)
            return -1;
    }
    return 0;
}

/* How many bits were not set before. `first`: the number of the first word. */
static uint64_t or_words(uint64_t *words, size_t n, const struct bitmap *bits, uint64_t first)
{
    uint64_t end = bitmap_words(bitmap_size(bits), bitmap_granularity(bits)), added = 0;

    for (size_t i = 0; i < n && first + i < end; i++) {
        uint64_t more = bitmap_word(bits, first + i) & ~words[i];

        words[i] |= more;
        added += (unsigned)__builtin_popcountll(more);
    }
    return added;
}

int bit_file_add_bits(struct bit_file *to, const struct bitmap *from, uint64_t *more, GError **err)
{
    const size_t length = bit_file_map_length(to->size, to->granularity);
    g_autofree uint64_t *all = g_malloc(MIN(length, PIECE));
    uint64_t added = 0;

    for (size_t at = 0; at < length; at += PIECE) {
        size_t n = MIN(length - at, PIECE);

        if (bit_file_read(to, all, n, at, err) < 0)
            return -1;
        added += or_words(all, n / 8, from, at / 8);
        if (write_piece(to, all, n, at, err) < 0)
            return -1;
    }
    *more = added * to->granularity;
    return 0;
}

int bit_file_sync(struct bit_file *f, GError **err)
{
    int error = f->s->ops->sync(f->file);

    return error < 0 ? fail_file(f, "sync", error, err) : 0;
}

int bit_file_check_length(struct bit_file *f, GError **err)
{
    uint64_t length;
    int error = f->s->ops->size(f->file, &length);

    if (error < 0)
        return fail_file(f, "stat", error, err);
    return length == file_length(f) ? 0 : fail_damaged(f, "somebody has cut it short", err);
}

int bit_file_rename(struct bit_file *f, const char *uuid, GError **err)
{
    g_autofree char *from = name_of(f->uuid);
    g_autofree char *to = name_of(uuid);
    uint8_t page[PAGE];
    int error;

    g_strlcpy(f->uuid, uuid, sizeof f->uuid);
    make_header(f, page);
    error = f->s->ops->write(f->file, page, PAGE, 0);
    if (error == 0)
        error = f->s->ops->rename(f->s, from, to);
    return error < 0 ? fail_file(f, "rename", error, err) : 0;
}

uint32_t bits_crc_begin(uint64_t size, uint32_t granularity)
{
    uint64_t what[] = {GUINT64_TO_LE(size), GUINT64_TO_LE((uint64_t)granularity)};

    return crc_of(0, what, sizeof what);
}

/* The pages that are not zero, each with its number. Pages of zeroes are only looked at. */
uint32_t bits_crc_add(uint32_t crc, const void *words, size_t length, uint64_t at)
{
    const uint8_t *piece = words;
    uint64_t number = at / PAGE;

    for (size_t p = 0; p < length; p += PAGE, number++) {
        uint64_t le = GUINT64_TO_LE(number);

        if (bits_are_zero(piece + p, PAGE))
            continue;
        crc = crc_of(crc, &le, sizeof le);
        crc = crc_of(crc, piece + p, PAGE);
    }
    return crc;
}

int bit_file_crc(struct bit_file *f, uint32_t *crc, GError **err)
{
    const size_t length = bit_file_map_length(f->size, f->granularity);
    uint32_t sum = bits_crc_begin(f->size, f->granularity);
    g_autofree uint8_t *piece = g_malloc(MIN(length, PIECE));

    for (size_t at = 0; at < length; at += PIECE) {
        size_t n = MIN(length - at, PIECE);

        if (bit_file_read(f, piece, n, at, err) < 0)
            return -1;
        sum = bits_crc_add(sum, piece, n, at);
    }
    *crc = sum;
    return 0;
}
