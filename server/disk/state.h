/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What instants ask of a store in which bitmaps survive the server. A disk is given one with its
 * configuration; all disks of an instant that have one have the same.
 */
#ifndef DISK_STATE_H
#define DISK_STATE_H

#include "common/base/bitmap.h"

#include <glib.h>
#include <stdbool.h>

struct disk;

/* A bitmap as it will be after an instant. */
struct state_change {
    struct disk *disk;
    const char *bitmap;  /* its name */
    struct bitmap *bits; /* NULL: it is removed */
    bool recording;
};

struct state_ops {
    /* Clean bits for a bitmap of the disk, e.g. over a file (bitmap_new_over). They may be dropped
     * without having been part of an instant. Control thread, or one that resizes. */
    struct bitmap *(*bits_new)(void *store, struct disk *d, const char *bitmap, uint64_t size,
                               uint32_t granularity, GError **err);
    /* An instant is about to take effect, in which `changes` is all that its disks will have and
     * all that they lose; what was to be copied has been copied. Write what can be written before
     * it. Any thread; may take long. *transaction is for the two below, of which one follows. -1:
     * the instant fails and nothing follows. */
    int (*prepare)(void *store, const struct state_change *changes, unsigned n, void **transaction,
                   GError **err);
    /* The instant has taken effect, and guests write on. Control thread; must not block. */
    void (*flipped)(void *store, void *transaction);
    /* It has failed, and has left nothing. Control thread; must not block. */
    void (*abort)(void *store, void *transaction);
};

#endif
