/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A named dirty bitmap of a disk. The object lives as long as somebody holds a reference. When it
 * has been removed from its disk, its bits can no longer be asked for. All changes go through an
 * instant (instant.h), none through here.
 */
#ifndef DISK_DIRTY_BITMAP_H
#define DISK_DIRTY_BITMAP_H

#include "common/base/extents.h"
#include "common/util/bitmap-glib.h"

#include <stdbool.h>
#include <stdint.h>

struct dirty_bitmap;

/* A copy of what QMP's BlockDirtyInfo shows. */
struct dirty_bitmap_info {
    uint64_t count; /* bytes */
    uint32_t granularity;
    bool recording; /* one that is inconsistent does not record */
    bool busy;      /* an export uses it, or an instant that changes it is under way */
    bool persistent, inconsistent;
    bool readonly; /* a checkpoint's */
};

struct dirty_bitmap *dirty_bitmap_ref(struct dirty_bitmap *db);
void dirty_bitmap_unref(struct dirty_bitmap *db);
GPtrArray *dirty_bitmap_array_new(void);                      /* of references, which it drops */
const char *dirty_bitmap_name(const struct dirty_bitmap *db); /* without qemu:dirty-bitmap: */
/* Counts the dirty bits, which takes a millisecond or more where there are many. Any thread. */
void dirty_bitmap_info(struct dirty_bitmap *db, struct dirty_bitmap_info *info);
/* The same at once, with a count of 0. Any thread. */
void dirty_bitmap_flags(struct dirty_bitmap *db, struct dirty_bitmap_info *info);
/* Why it is inconsistent, for people; free with g_free(). NULL: it is good. Any thread. */
char *dirty_bitmap_reason(struct dirty_bitmap *db);

/* The bits as they are now; the caller owns a reference. NULL: the bitmap was removed, it is
 * inconsistent and has none, or it is a frozen one of which all is dirty. Those of one that is inconsistent say nothing. */
struct bitmap *dirty_bitmap_bits(struct dirty_bitmap *db);

/* Append the extents of [offset, offset + length), flag EXTENT_DIRTY or 0, to an empty list; stops
 * early when the list is full, or, with `one`, after one extent. What lies past the end of the
 * bits, which were made for a smaller disk, is dirty. 0, or -EIO when the bitmap was removed or is
 * inconsistent: without an answer, nothing is called clean. Any thread. */
int dirty_bitmap_extents(struct dirty_bitmap *db, uint64_t length, uint64_t offset, bool one,
                         struct extents *extents);

/* One that stands still (instant_freeze), before anybody else has it: it is good, and all of it is dirty.
 * Control thread. */
void dirty_bitmap_set_all(struct dirty_bitmap *db);

/* A busy bitmap (an export uses it) refuses to be changed or removed. These calls are counted.
 * Control thread. */
void dirty_bitmap_busy_begin(struct dirty_bitmap *db);
void dirty_bitmap_busy_end(struct dirty_bitmap *db);

#endif
