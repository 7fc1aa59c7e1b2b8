/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An instant: several changes to bitmaps and views of several disks that take effect together, at
 * one point between guest writes, or not at all.
 *
 * Use: instant_new; add actions in order (each sees the effects of those before it; the first error
 * ends the attempt); instant_commit, which shuts the gates of all disks concerned, waits for the
 * writes under way on any of them, flips, and opens; or instant_abort, which leaves nothing behind.
 * Single commands are instants with one action. Error texts are QEMU's (reference/qmp.md).
 *
 * Control thread only; one instant at a time.
 */
#ifndef DISK_INSTANT_H
#define DISK_INSTANT_H

#include "server/disk/view.h"

struct instant;

struct instant *instant_new(void);

/* granularity 0: the default (65536). Names: not empty, at most 1023 bytes, unique on the disk. */
int instant_bitmap_add(struct instant *i, struct disk *d, const char *name, uint32_t granularity,
                       bool recording, GError **err);
int instant_bitmap_remove(struct instant *i, struct disk *d, const char *name, GError **err);
int instant_bitmap_clear(struct instant *i, struct disk *d, const char *name, GError **err);
int instant_bitmap_record(struct instant *i, struct disk *d, const char *name, bool recording,
                          GError **err);
/* target |= source; the source may be another disk's of the same size. To merge several, call it
 * for each. */
int instant_bitmap_merge(struct instant *i, struct disk *d, const char *target,
                         struct disk *source_disk, const char *source, GError **err);

/* A view named `name` (the caller has made sure that no node has that name). *view (may be NULL) is
 * valid once instant_commit succeeded. */
int instant_view_create(struct instant *i, struct disk *d, const char *name,
                        const struct view_options *options, struct view **view, GError **err);

/* 0: all done. -1: nothing changed and *err says why (e.g. writes under way did not end in 10 s).
 * Ends `i` either way. */
int instant_commit(struct instant *i, GError **err);
void instant_abort(struct instant *i);

#endif
