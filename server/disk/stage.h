/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of an instant share: instant.c (actions, and the instant itself), stage.c,
 * resize.c. See instant.c for the design. Control thread only.
 */
#ifndef SERVER_DISK_STAGE_H
#define SERVER_DISK_STAGE_H

#include "server/disk/disk-private.h"
#include "server/disk/instant.h"

/* "disk %s: writes under way did not end ..."; returns -1. */
int fail_drain(struct disk *d, GError **err);

struct staged_bitmap {
    struct dirty_bitmap *db; /* a reference */
    struct bitmap *bits;     /* a reference: what db->bits will be */
    bool ours;               /* bits were made by this instant, nobody else reads them */
    bool recording;
    GArray *feeds; /* struct feed */
};

/* Writes to `disk` go into a staged bitmap's bits before the instant, as into granules of at least
 * `grain`: one that is merged from a coarser bitmap has whole granules of that one. */
struct feed {
    struct disk *disk;
    uint32_t grain;
};

struct stage {
    struct disk *disk;
    GPtrArray *bitmaps; /* struct staged_bitmap */
    GPtrArray *shadows; /* struct bitmap, references: recorded into before the instant */
    GPtrArray *views;   /* struct view, ours until linked */
    bool resize;
    uint64_t size;

    struct tracker *tracker; /* prepared: for after the instant */
    GPtrArray *list;         /* prepared: disk->bitmaps after it */
    GPtrArray *garbage;      /* struct bitmap: old bits, let go after the gates are open */
    bool closed;
};

struct instant {
    GPtrArray *stages; /* in name order of their disks */
};

/* The stage of a disk, made when it is first asked for. */
struct stage *stage_of(struct instant *i, struct disk *d);
void stage_free(gpointer stage);

/* A new staged bitmap; takes over both references. */
struct staged_bitmap *stage_bitmap(struct stage *st, struct dirty_bitmap *db, struct bitmap *bits,
                                   bool recording);
/* As the actions so far have left it; NULL and *err: not found. */
struct staged_bitmap *stage_find(struct stage *st, const char *name, GError **err);
/* The same, of one that may be changed: not busy. */
struct staged_bitmap *stage_find_free(struct stage *st, const char *name, GError **err);

/* Let the writes of all `feeds` (struct feed) go into s->bits from now on. */
int stage_add_feeds(struct instant *i, struct staged_bitmap *s, GArray *feeds, GError **err);
/* Give s bits of its own for `size` bytes that hold all the old ones hold, and go on doing so. */
int stage_make_own(struct instant *i, struct staged_bitmap *s, uint64_t size, GError **err);
/* Undo what the two above did to the disk. */
void stage_remove_shadows(struct stage *st);

/* Change the size, if that is staged. All gates are closed. Can fail, with nothing changed. */
int stage_resize(struct stage *st, GError **err);

#endif
