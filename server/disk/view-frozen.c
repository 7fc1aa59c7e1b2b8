/* SPDX-License-Identifier: BSD-3-Clause */
/* The bits stand in the view's file behind its map, word by word as in memory. What is all zero stays a
 * hole. */
#include "server/disk/view-frozen.h"

#include "common/util/bitmap-glib.h"
#include "common/util/error.h"
#include "server/disk/view-map.h"

#include <errno.h>
#include <string.h>

#define PIECE_WORDS UINT64_C(512)

/* What head.frozen says. */
enum { FROZEN_NONE, FROZEN_FULL, FROZEN_BITS };

static int fail_file(struct view *v, const char *doing, int error, GError **err)
{
    struct storage_file *file = v->file->file;

    return storage_fail(file->storage, file->name, doing, error, err);
}

/* ---- keeping ---- */

static uint64_t words_of(const struct bitmap *bits)
{
    return bitmap_words(bitmap_size(bits), bitmap_granularity(bits));
}

static int write_piece(struct view *v, const struct bitmap *bits, uint64_t piece)
{
    struct storage_file *file = v->file->file;
    uint64_t words[PIECE_WORDS], first = piece * PIECE_WORDS;
    uint64_t n = MIN(words_of(bits) - first, PIECE_WORDS);

    for (uint64_t w = 0; w < n; w++)
        words[w] = bitmap_word(bits, first + w);
    return file->storage->ops->write(file, words, n * sizeof *words, v->file->mapped + first * 8);
}

/* Time is proportional to what is dirty, not to the disk. */
static int write_bits(struct view *v, const struct bitmap *bits)
{
    struct storage_file *file = v->file->file;
    const uint64_t a_piece = PIECE_WORDS * 64 * bitmap_granularity(bits); /* bytes of the disk */
    uint64_t at = 0, start, length;
    int error = file->storage->ops->reserve(file, v->file->mapped + words_of(bits) * 8);

    while (error == 0 && bitmap_next_dirty(bits, at, bitmap_size(bits), &start, &length))
        for (at = start / a_piece * a_piece; error == 0 && at < start + length; at += a_piece)
            error = write_piece(v, bits, at / a_piece);
    return error;
}

int view_keep_frozen(struct view *v, struct dirty_bitmap *frozen, GError **err)
{
    g_autofree char *reason = dirty_bitmap_reason(frozen);
    struct bitmap *bits = reason ? NULL : dirty_bitmap_bits(frozen);
    struct lasting_view *head = v->file ? &v->file->head->view : NULL;
    int error = head && bits ? write_bits(v, bits) : 0;

    if (head && error == 0) {
        head->granularity = bits ? bitmap_granularity(bits) : frozen->granularity;
        head->frozen_size = bits ? bitmap_size(bits) : v->size;
        g_strlcpy(head->bitmap, frozen->name, sizeof head->bitmap);
        atomic_store(&head->frozen, bits ? FROZEN_BITS : FROZEN_FULL);
    }
    bitmap_unref(bits);
    return error < 0 ? fail_file(v, "keeping what is dirty", error, err) : 0;
}

/* ---- having it back ---- */

/* The bits of one word. */
static void set_word(struct bitmap *bits, uint64_t at, uint64_t word)
{
    uint64_t granularity = bitmap_granularity(bits);

    while (word) {
        unsigned bit = (unsigned)__builtin_ctzll(word);
        uint64_t rest = ~(word >> bit);
        unsigned run = rest ? (unsigned)__builtin_ctzll(rest) : 64;

        run = MIN(run, 64 - bit);
        bitmap_set(bits, (at * 64 + bit) * granularity, run * granularity);
        word = run == 64 ? 0 : word & ~(((UINT64_C(1) << run) - 1) << bit);
    }
}

static int read_bits(struct view *v, struct bitmap *bits)
{
    struct storage_file *file = v->file->file;
    uint64_t n = words_of(bits);
    int error = 0;

    for (uint64_t at = 0; error == 0 && at < n; at += PIECE_WORDS) {
        uint64_t piece[PIECE_WORDS], got = MIN(n - at, PIECE_WORDS);

        error =
            file->storage->ops->read(file, piece, got * sizeof *piece, v->file->mapped + at * 8);
        for (uint64_t w = 0; error == 0 && w < got; w++)
            set_word(bits, at + w, piece[w]);
    }
    return error;
}

static bool is_sound(const struct lasting_view *head, const struct view *v)
{
    uint32_t g = head->granularity;

    return g >= BITMAP_MIN_GRANULARITY && g <= BITMAP_MAX_GRANULARITY && (g & (g - 1)) == 0 &&
           head->frozen_size == v->size && head->bitmap[0] != '\0';
}

struct dirty_bitmap *view_frozen(struct view *v, GError **err)
{
    const struct lasting_view *head = v->file ? &v->file->head->view : NULL;
    uint32_t frozen = head ? atomic_load(&head->frozen) : FROZEN_NONE;
    struct bitmap *bits;
    int error;

    if (frozen == FROZEN_NONE || frozen > FROZEN_BITS || !is_sound(head, v)) {
        fail(err, "what is dirty in view %s was not kept", v->node.name);
        return NULL;
    }
    if (frozen == FROZEN_FULL)
        return dirty_bitmap_new_full(head->bitmap, head->frozen_size, head->granularity);
    bits = bitmap_new(head->frozen_size, head->granularity, err);
    error = bits ? read_bits(v, bits) : 0;
    if (error < 0)
        fail_file(v, "reading what is dirty", error, err);
    if (bits && error == 0)
        return dirty_bitmap_new(head->bitmap, bits, false);
    bitmap_unref(bits);
    return NULL;
}
