/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bits of a dirty bitmap: one atomic bit for each granule of a disk.
 *
 * Any number of threads may set and read at once, without a lock. Bits are only ever set; to clear
 * is to make a new bitmap. Memory is taken from the kernel page by page as bits are first set, so
 * an empty bitmap of a huge disk costs nothing; two summary levels (1/64 and 1/4096 of the bits)
 * let a scan skip what was never touched, so reading an empty bitmap takes no memory either.
 */
#ifndef COMMON_BASE_BITMAP_H
#define COMMON_BASE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#define BITMAP_MIN_GRANULARITY 512u
#define BITMAP_MAX_GRANULARITY 0x80000000u /* 2 GiB */

struct bitmap;

/* A clean bitmap for `size` bytes; `granularity` is a power of 2, 512 B to 2 GiB. The caller owns
 * one reference. NULL and errno when there is not enough memory or address space. */
struct bitmap *bitmap_alloc(uint64_t size, uint32_t granularity);

/* A bitmap whose bits are in memory that the caller gives, e.g. a mapped file. It holds
 * bitmap_words() words in the host's byte order; the first granule is the lowest bit of the first
 * word; bits past the last granule are 0. If some bits are set, call bitmap_summarise next. When
 * the last reference goes, `release` is called; after that the memory is not touched any more. NULL
 * and errno: failed, and `release` is not called. */
struct bitmap *bitmap_alloc_over(uint64_t *words, uint64_t size, uint32_t granularity,
                                 void (*release)(void *opaque), void *opaque);
uint64_t bitmap_words(uint64_t size, uint32_t granularity);
/* Find the bits that came with the memory. This reads all of it. Until it returns, the functions
 * below may miss those bits; other threads may set bits meanwhile. */
void bitmap_summarise(struct bitmap *b);
/* The memory may be lost, with the file under it, and then reads as clean. `lost` tells, with the
 * opaque of bitmap_alloc_over, whether that is so: any thread. Before others have the bitmap. */
void bitmap_set_lost(struct bitmap *b, bool (*lost)(void *opaque));
/* Who reads bits asks this afterwards: if it is true, what was read says nothing. */
bool bitmap_is_lost(const struct bitmap *b);

struct bitmap *bitmap_ref(struct bitmap *b);
void bitmap_unref(struct bitmap *b); /* NULL is allowed */

uint64_t bitmap_size(const struct bitmap *b);        /* bytes that it covers */
uint32_t bitmap_granularity(const struct bitmap *b); /* bytes a bit */

/* Set the bits of all granules that [offset, offset + length) touches. What lies past the end is
 * ignored. Lock-free, any thread. When it returns, any thread that synchronises with the caller
 * sees the bits. */
void bitmap_set(struct bitmap *b, uint64_t offset, uint64_t length);

/* Is the granule that holds `offset` dirty? Past the end: false. */
bool bitmap_test(const struct bitmap *b, uint64_t offset);

/* Find the first dirty run in [offset, end): *start and *length in bytes, cut to the range asked
 * for. False: all of it is clean. Time is proportional to what is dirty, not to the disk. */
bool bitmap_next_dirty(const struct bitmap *b, uint64_t offset, uint64_t end, uint64_t *start,
                       uint64_t *length);

/* Dirty granules times granularity: QEMU's `count` (may exceed the size by part of a granule). */
uint64_t bitmap_count(const struct bitmap *b);

/* Set in `dst` every byte range that is dirty in `src`. The granularities and sizes may differ; a
 * coarser dst over-marks, never under-marks. src may be recording meanwhile. */
void bitmap_merge(struct bitmap *dst, const struct bitmap *src);
/* The same for what is dirty in the bytes [start, end) of `src`, multiples of its granularity. */
void bitmap_merge_range(struct bitmap *dst, const struct bitmap *src, uint64_t start, uint64_t end);

/* Word `w` of its bitmap_words() words, as it lies in memory. */
uint64_t bitmap_word(const struct bitmap *b, uint64_t w);

#endif
