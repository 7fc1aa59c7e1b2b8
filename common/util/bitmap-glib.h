/* SPDX-License-Identifier: BSD-3-Clause */
/* What bitmaps (base/bitmap.h) need GLib for: errors for people, and a checksum. */
#ifndef COMMON_UTIL_BITMAP_GLIB_H
#define COMMON_UTIL_BITMAP_GLIB_H

#include "common/base/bitmap.h"

#include <glib.h>

/* As bitmap_alloc and bitmap_alloc_over, but on failure NULL and *err. */
struct bitmap *bitmap_new(uint64_t size, uint32_t granularity, GError **err);
struct bitmap *bitmap_new_over(uint64_t *words, uint64_t size, uint32_t granularity,
                               void (*release)(void *opaque), void *opaque, GError **err);

/* SHA-256, in hex, over the bits as 64-bit little-endian words, the last one filled with zeroes:
 * what QEMU's x-debug-block-dirty-bitmap-sha256 prints. Free with g_free(). */
char *bitmap_sha256(const struct bitmap *b);

#endif
