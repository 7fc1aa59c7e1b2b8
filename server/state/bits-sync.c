/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Words are read through the memory folder's file: a page that was never touched would take memory if
 * it were read through the mapping. Pages that the process has in its own memory are read there.
 */
#include "server/state/bits-sync.h"

#include "common/util/error.h"

#include <string.h>

#define PIECE      ((size_t)256 * 1024)
#define PAGE_WORDS (BIT_PAGE / 8)

/* ---- reading ---- */

static void copy_page(const struct stored_bits *sb, size_t at, uint64_t *to)
{
    const _Atomic uint64_t *from = (const _Atomic uint64_t *)(sb->words + at / 8);

    for (unsigned i = 0; i < PAGE_WORDS; i++)
        to[i] = atomic_load_explicit(from + i, memory_order_relaxed);
}

static int read_words(struct stored_bits *sb, size_t at, size_t n, uint64_t *piece, GError **err)
{
    if (sb->memory && bit_file_read(sb->memory, piece, n, at, err) < 0)
        return -1;
    for (size_t p = 0; p < n; p += BIT_PAGE)
        if (!sb->memory || mapping_has_page(sb->guard, (at + p) / BIT_PAGE))
            copy_page(sb, at + p, piece + p / 8);
    return 0;
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

static int write_piece(struct stored_bits *sb, size_t at, size_t n, const uint64_t *piece,
                       bool *lost, GError **err)
{
    uint16_t counts[PIECE / BIT_PAGE];

    for (size_t p = 0, end; p < n; p = end + BIT_PAGE) {
        end = changed_run(sb, at, p, n, piece, counts);
        if (end == p)
            continue;
        *lost = has_fewer(sb, at, p, end, counts);
        if (*lost)
            return fail(err, "bits have vanished from the memory");
        if (bit_file_write(sb->file, piece + p / 8, end - p, at + p, err) < 0)
            return -1;
        memcpy(sb->written + (at + p) / BIT_PAGE, counts + p / BIT_PAGE,
               (end - p) / BIT_PAGE * sizeof counts[0]);
    }
    return 0;
}

static int write_back(struct stored_bits *sb, bool *lost, GError **err)
{
    g_autofree uint64_t *piece = g_malloc(MIN(sb->length, PIECE));

    for (size_t at = 0; at < sb->length; at += PIECE) {
        size_t n = MIN(sb->length - at, PIECE);

        if (read_words(sb, at, n, piece, err) < 0) {
            *lost = true;
            return -1;
        }
        if (write_piece(sb, at, n, piece, lost, err) < 0)
            return -1;
    }
    return 0;
}

static int sync_locked(struct stored_bits *sb, bool *lost, GError **err)
{
    if (atomic_load(&sb->stuck))
        return fail(err, "they could not be written before");
    if (write_back(sb, lost, err) == 0 && bit_file_sync(sb->file, err) == 0)
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
