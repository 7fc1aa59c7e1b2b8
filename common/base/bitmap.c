/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Layout: one anonymous mapping holds three arrays of 64-bit words, coarse to fine. For a bitmap
 * over the caller's memory it holds the first two.
 *
 *   level 2   one bit for each word of level 1 (4096 granules)
 *   level 1   one bit for each word of level 0 (64 granules)
 *   level 0   one bit for each granule
 *
 * Invariant: where a bit is set, its bits in the summary levels are set too, and were set first. So
 * a thread that finds a granule's bit already set (acquire) may rely on the summaries, and whoever
 * synchronises with that thread finds the bit by a scan from above. A summary bit over a word that
 * is still zero does no harm: the scan looks and goes on.
 */
#include "common/base/bitmap.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LEVELS 3

#undef MIN
#undef MAX
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

typedef _Atomic uint64_t word;

struct bitmap {
    atomic_uint references;
    unsigned shift; /* log2(granularity) */
    uint64_t size;
    uint64_t granules;
    word *level[LEVELS];
    uint64_t words[LEVELS];
    void *mapping;
    size_t mapped;
    void (*release)(void *opaque); /* NULL: level 0 is in the mapping */
    bool (*lost)(void *opaque);
    void *opaque;
};

/* Set the sizes of a bitmap. */
static void measure(struct bitmap *b, uint64_t size, uint32_t granularity)
{
    assert(granularity >= BITMAP_MIN_GRANULARITY && (granularity & (granularity - 1)) == 0);
    b->shift = (unsigned)__builtin_ctz(granularity);
    b->size = size;
    b->granules = (size >> b->shift) + ((size & (granularity - 1)) != 0);
    for (uint64_t bits = b->granules, l = 0; l < LEVELS; l++) {
        b->words[l] = MAX((bits + 63) / 64, 1);
        bits = b->words[l];
    }
}

/* A bitmap with its sizes; nothing is mapped yet. NULL and errno: no memory. */
static struct bitmap *prepare(uint64_t size, uint32_t granularity)
{
    struct bitmap *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    atomic_init(&b->references, 1);
    measure(b, size, granularity);
    return b;
}

/* Map `words` words, from level 2 on. NULL and errno: `b` is freed. */
static struct bitmap *map_levels(struct bitmap *b, uint64_t words)
{
    b->mapped = words * sizeof(word);
    b->mapping = mmap(NULL, b->mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->mapping == MAP_FAILED) {
        int error = errno;

        free(b);
        errno = error;
        return NULL;
    }
    /* One bit must not cost a huge page. */
    (void)madvise(b->mapping, b->mapped, MADV_NOHUGEPAGE);
    b->level[2] = b->mapping;
    b->level[1] = b->level[2] + b->words[2];
    b->level[0] = b->level[1] + b->words[1];
    return b;
}

struct bitmap *bitmap_alloc(uint64_t size, uint32_t granularity)
{
    struct bitmap *b = prepare(size, granularity);

    return b ? map_levels(b, b->words[2] + b->words[1] + b->words[0]) : NULL;
}

uint64_t bitmap_words(uint64_t size, uint32_t granularity)
{
    struct bitmap b;

    measure(&b, size, granularity);
    return b.words[0];
}

struct bitmap *bitmap_alloc_over(uint64_t *words, uint64_t size, uint32_t granularity,
                                 void (*release)(void *opaque), void *opaque)
{
    struct bitmap *b = prepare(size, granularity);

    if (b)
        b = map_levels(b, b->words[2] + b->words[1]);
    if (!b)
        return NULL;
    b->level[0] = (word *)words;
    b->release = release;
    b->opaque = opaque;
    return b;
}

void bitmap_set_lost(struct bitmap *b, bool (*lost)(void *opaque))
{
    b->lost = lost;
}

bool bitmap_is_lost(const struct bitmap *b)
{
    return b->lost && b->lost(b->opaque);
}

struct bitmap *bitmap_ref(struct bitmap *b)
{
    atomic_fetch_add_explicit(&b->references, 1, memory_order_relaxed);
    return b;
}

void bitmap_unref(struct bitmap *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->references, 1, memory_order_acq_rel) != 1)
        return;
    munmap(b->mapping, b->mapped);
    if (b->release)
        b->release(b->opaque);
    free(b);
}

uint64_t bitmap_size(const struct bitmap *b)
{
    return b->size;
}

uint32_t bitmap_granularity(const struct bitmap *b)
{
    return 1u << b->shift;
}

/* Bits [from, to] of a word, both below 64. */
static inline uint64_t mask(unsigned from, unsigned to)
{
    return (~UINT64_C(0) << from) & (~UINT64_C(0) >> (63 - to));
}

static inline void set_bits(word *w, uint64_t bits)
{
    if ((atomic_load_explicit(w, memory_order_acquire) & bits) != bits)
        atomic_fetch_or_explicit(w, bits, memory_order_release);
}

static void set_words(struct bitmap *b, int level, uint64_t first, uint64_t last)
{
    for (uint64_t w = first / 64; w <= last / 64; w++) {
        unsigned from = w == first / 64 ? first % 64 : 0;
        unsigned to = w == last / 64 ? last % 64 : 63;

        set_bits(&b->level[level][w], mask(from, to));
    }
}

void bitmap_set(struct bitmap *b, uint64_t offset, uint64_t length)
{
    uint64_t first, last;

    if (length == 0 || offset >= b->size)
        return;
    first = offset >> b->shift;
    last = (offset + MIN(length, b->size - offset) - 1) >> b->shift;

    if (first / 64 == last / 64) {
        uint64_t bits = mask(first % 64, last % 64);

        /* The common case: a small write to a granule that is dirty already. */
        if ((atomic_load_explicit(&b->level[0][first / 64], memory_order_acquire) & bits) == bits)
            return;
    }
    set_words(b, 2, first / 4096, last / 4096);
    set_words(b, 1, first / 64, last / 64);
    set_words(b, 0, first, last);
}

static inline uint64_t load(const struct bitmap *b, int level, uint64_t w)
{
    return atomic_load_explicit(&b->level[level][w], memory_order_acquire);
}

void bitmap_summarise(struct bitmap *b)
{
    for (uint64_t w = 0; w < b->words[0]; w++)
        if (load(b, 0, w)) {
            set_words(b, 2, w / 64, w / 64);
            set_words(b, 1, w, w);
        }
}

bool bitmap_test(const struct bitmap *b, uint64_t offset)
{
    uint64_t g = offset >> b->shift;

    return offset < b->size && (load(b, 0, g / 64) >> (g % 64) & 1);
}

/* A word of a level, which is 0 without a look at it where the level above says so. Where the words
 * are a sparse file in memory, the look alone would take a page of it. */
static inline uint64_t load_if_set(const struct bitmap *b, int level, uint64_t w)
{
    if (level + 1 < LEVELS && !(load(b, level + 1, w / 64) >> (w % 64) & 1))
        return 0;
    return load(b, level, w);
}

/* The first set bit at or after `bit` in one level, or UINT64_MAX; the level above, where there is
 * one, says which words to look at. */
static uint64_t find_set(const struct bitmap *b, int level, uint64_t bit)
{
    uint64_t w = bit / 64;

    if (w >= b->words[level])
        return UINT64_MAX;
    for (uint64_t bits = load_if_set(b, level, w) & (~UINT64_C(0) << (bit % 64));;) {
        if (bits)
            return w * 64 + (uint64_t)__builtin_ctzll(bits);
        w = level + 1 < LEVELS ? find_set(b, level + 1, w + 1) : w + 1;
        if (w >= b->words[level])
            return UINT64_MAX;
        bits = load(b, level, w);
    }
}

static uint64_t find_clear(const struct bitmap *b, uint64_t bit, uint64_t end)
{
    while (bit < end) {
        uint64_t clear = ~load(b, 0, bit / 64) & (~UINT64_C(0) << (bit % 64));

        if (clear)
            return MIN(bit / 64 * 64 + (uint64_t)__builtin_ctzll(clear), end);
        bit = (bit / 64 + 1) * 64;
    }
    return end;
}

bool bitmap_next_dirty(const struct bitmap *b, uint64_t offset, uint64_t end, uint64_t *start,
                       uint64_t *length)
{
    uint64_t first, last, run_end;

    end = MIN(end, b->size);
    if (offset >= end)
        return false;
    first = find_set(b, 0, offset >> b->shift);
    if (first == UINT64_MAX || first > (end - 1) >> b->shift)
        return false;
    last = find_clear(b, first, ((end - 1) >> b->shift) + 1);
    /* The last granule may reach past the size, and past 2^64. */
    run_end = last > (end - 1) >> b->shift ? end : last << b->shift;
    *start = MAX(first << b->shift, offset);
    *length = run_end - *start;
    return true;
}

uint64_t bitmap_count(const struct bitmap *b)
{
    uint64_t granules = 0;

    for (uint64_t w = find_set(b, 1, 0); w != UINT64_MAX; w = find_set(b, 1, w + 1))
        granules += (uint64_t)__builtin_popcountll(load(b, 0, w));
    return granules << b->shift;
}

void bitmap_merge_range(struct bitmap *dst, const struct bitmap *src, uint64_t start, uint64_t end)
{
    uint64_t length;

    for (; bitmap_next_dirty(src, start, end, &start, &length); start += length)
        bitmap_set(dst, start, length);
}

void bitmap_merge(struct bitmap *dst, const struct bitmap *src)
{
    bitmap_merge_range(dst, src, 0, src->size);
}

uint64_t bitmap_word(const struct bitmap *b, uint64_t w)
{
    return load_if_set(b, 0, w);
}
