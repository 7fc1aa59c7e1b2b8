/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Words are read through the memory folder's file: a page that was never touched would take memory if
 * it were read through the mapping. Pages that the process has in its own memory are read there.
 */
#include "server/state/bits-sync.h"

#include "common/state/folder.h"
#include "common/util/error.h"

#include <string.h>

#define PIECE      ((size_t)256 * 1024)
#define PAGE_WORDS (BIT_PAGE / 8)

/* ---- reading ---- */

/* The file may have bits that are not in the mapping yet: see mapping_has_page. */
static void add_page(const struct stored_bits *sb, size_t at, uint64_t *to)
{
    const _Atomic uint64_t *from = (const _Atomic uint64_t *)(sb->words + at / 8);

    for (unsigned i = 0; i < PAGE_WORDS; i++)
        to[i] |= atomic_load_explicit(from + i, memory_order_relaxed);
}

static int read_words(struct stored_bits *sb, size_t at, size_t n, uint64_t *piece, GError **err)
{
    if (!sb->memory)
        memset(piece, 0, n);
    else if (bit_file_read(sb->memory, piece, n, at, err) < 0)
        return -1;
    for (size_t p = 0; p < n; p += BIT_PAGE)
        if (!sb->memory || mapping_has_page(sb->guard, (at + p) / BIT_PAGE))
            add_page(sb, at + p, piece + p / 8);
    return 0;
}

/* Is a part of the words clean, so that it need not be read? As in read_words, the file is asked before
 * the mapping. */
static bool is_clean(const struct stored_bits *sb, size_t at, size_t n)
{
    if (!sb->memory || !bit_file_has_hole(sb->memory, n, at))
        return false;
    for (size_t p = 0; p < n; p += BIT_PAGE)
        if (mapping_has_page(sb->guard, (at + p) / BIT_PAGE))
            return false;
    return true;
}

static uint16_t count_page(const uint64_t *words)
{
    unsigned n = 0;

    for (unsigned i = 0; i < PAGE_WORDS; i++)
        n += (unsigned)__builtin_popcountll(words[i]);
    return (uint16_t)n;
}

/* ---- loading ---- */

static void load_piece(struct stored_bits *sb, size_t at, size_t n, const uint64_t *piece)
{
    for (size_t p = 0; p < n; p += BIT_PAGE) {
        if (bits_are_zero(piece + p / 8, BIT_PAGE))
            continue;
        memcpy(sb->words + (at + p) / 8, piece + p / 8, BIT_PAGE);
        sb->written[(at + p) / BIT_PAGE] = count_page(piece + p / 8);
    }
}

int bits_load(struct stored_bits *sb, struct bit_file *f, GError **err)
{
    g_autofree uint64_t *piece = g_malloc(MIN(sb->length, PIECE));

    for (size_t at = 0; at < sb->length; at += PIECE) {
        size_t n = MIN(sb->length - at, PIECE);

        if (bit_file_read(f, piece, n, at, err) < 0)
            return -1;
        load_piece(sb, at, n, piece);
    }
    return 0;
}

/* ---- writing back ---- */

/* The end of the run of changed pages that begins at `from`; their counts are put into `counts`. */
static size_t changed_run(struct stored_bits *sb, size_t at, size_t from, size_t n,
                          const uint64_t *piece, uint16_t *counts)
{
    size_t p = from;

    for (; p < n; p += BIT_PAGE) {
        counts[p / BIT_PAGE] = count_page(piece + p / 8);
        if (counts[p / BIT_PAGE] == sb->written[(at + p) / BIT_PAGE])
            break;
    }
    return p;
}

/* A page that has fewer bits than before was taken away. */
static bool has_fewer(const struct stored_bits *sb, size_t at, size_t from, size_t end,
                      const uint16_t *counts)
{
    for (size_t p = from; p < end; p += BIT_PAGE)
        if (counts[p / BIT_PAGE] < sb->written[(at + p) / BIT_PAGE])
            return true;
    return false;
}

static int write_piece(struct stored_bits *sb, struct bit_file *f, size_t at, size_t n,
                       const uint64_t *piece, bool *lost, GError **err)
{
    uint16_t counts[PIECE / BIT_PAGE];

    for (size_t p = 0, end; p < n; p = end + BIT_PAGE) {
        end = changed_run(sb, at, p, n, piece, counts);
        if (end == p)
            continue;
        *lost = has_fewer(sb, at, p, end, counts);
        if (*lost)
            return fail(err, "bits have vanished from the memory");
        if (bit_file_write(f, piece + p / 8, end - p, at + p, err) < 0)
            return -1;
        memcpy(sb->written + (at + p) / BIT_PAGE, counts + p / BIT_PAGE,
               (end - p) / BIT_PAGE * sizeof counts[0]);
    }
    return 0;
}

/* Was anything of these pages written? Then they must still have it. */
static bool was_written(const struct stored_bits *sb, size_t at, size_t n)
{
    for (size_t p = 0; p < n; p += BIT_PAGE)
        if (sb->written[(at + p) / BIT_PAGE] != 0)
            return true;
    return false;
}

static int write_back(struct stored_bits *sb, struct bit_file *f, bool *lost, GError **err)
{
    g_autofree uint64_t *piece = g_malloc(MIN(sb->length, PIECE));

    for (size_t at = 0; at < sb->length; at += PIECE) {
        size_t n = MIN(sb->length - at, PIECE);

        if (!was_written(sb, at, n) && is_clean(sb, at, n))
            continue;
        if (read_words(sb, at, n, piece, err) < 0) {
            *lost = true;
            return -1;
        }
        if (write_piece(sb, f, at, n, piece, lost, err) < 0)
            return -1;
    }
    return 0;
}

static int sync_locked(struct stored_bits *sb, bool *lost, GError **err)
{
    if (atomic_load(&sb->stuck))
        return fail(err, "they could not be written before");
    if (bit_file_check_length(sb->file, err) == 0 && write_back(sb, sb->file, lost, err) == 0 &&
        bit_file_sync(sb->file, err) == 0)
        return 0;
    if (!*lost)
        atomic_store(&sb->stuck, true);
    return -1;
}

int bits_sync(struct stored_bits *sb, bool *lost, GError **err)
{
    bool nobody_asks = false;
    int result;

    if (!lost)
        lost = &nobody_asks;
    *lost = false;
    pthread_mutex_lock(&sb->sync_lock);
    result = sync_locked(sb, lost, err);
    pthread_mutex_unlock(&sb->sync_lock);
    return result;
}

/* ---- another file ---- */

static int fill_copy(struct stored_bits *sb, struct bit_file *f, GError **err)
{
    struct storage *s = sb->disk->store->storage;
    bool lost = false;
    int error, result;

    pthread_mutex_lock(&sb->sync_lock);
    memset(sb->written, 0, sb->length / BIT_PAGE * sizeof *sb->written);
    result = write_back(sb, f, &lost, err);
    pthread_mutex_unlock(&sb->sync_lock);
    if (result < 0 || bit_file_sync(f, err) < 0)
        return -1;
    error = s->ops->sync_names(s, STATE_BITS);
    return error < 0 ? storage_fail(s, STATE_BITS, "syncing the names in it", error, err) : 0;
}

struct bit_file *bits_copy(struct stored_bits *sb, GError **err)
{
    struct storage *s = sb->disk->store->storage;
    g_autofree char *uuid = g_uuid_string_random();
    struct bit_file *f = bit_file_create(s, uuid, sb->size, sb->granularity, err);

    atomic_store(&sb->stuck, true); /* from now on `written` is about the copy */
    if (!f || fill_copy(sb, f, err) == 0)
        return f;
    bit_file_close(f);
    (void)bit_file_remove(s, uuid, NULL); /* an orphan does no harm */
    return NULL;
}

struct bit_file *bits_put_copy(struct stored_bits *sb, struct bit_file *f)
{
    struct store *s = sb->disk->store;
    struct bit_file *old;

    pthread_mutex_lock(&sb->sync_lock);
    pthread_mutex_lock(&s->lock);
    old = sb->file;
    sb->file = f;
    g_strlcpy(sb->uuid, bit_file_uuid(f), sizeof sb->uuid);
    pthread_mutex_unlock(&s->lock);
    atomic_store(&sb->stuck, false);
    pthread_mutex_unlock(&sb->sync_lock);
    return old;
}

int bits_sum(struct stored_bits *sb, uint32_t *crc, GError **err)
{
    uint32_t sum = bits_crc_begin(sb->size, sb->granularity);
    g_autofree uint64_t *piece = g_malloc(MIN(sb->length, PIECE));

    for (size_t at = 0; at < sb->length; at += PIECE) {
        size_t n = MIN(sb->length - at, PIECE);

        if (is_clean(sb, at, n))
            continue; /* zeroes do not change the sum */
        if (read_words(sb, at, n, piece, err) < 0)
            return -1;
        sum = bits_crc_add(sum, piece, n, at);
    }
    *crc = sum;
    return 0;
}
