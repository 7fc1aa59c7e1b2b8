/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of an instant share: instant.c (actions, and the instant itself), stage.c,
 * resize.c. See instant.c for the design. Control thread only.
 */
#ifndef DISK_STAGE_H
#define DISK_STAGE_H

#include "server/disk/disk-private.h"
#include "server/disk/instant.h"

/* "disk %s: writes under way did not end ..."; returns -1. */
int fail_drain(struct disk *d, GError **err);

struct staged_bitmap {
    struct dirty_bitmap *db; /* a reference */
    struct bitmap *bits;     /* a reference: what db->bits will be */
    bool ours;               /* bits were made by this instant, and nothing is copied from them */
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
    GArray *shadows;    /* struct mark, references: recorded into too, until the instant */
    bool shadowed;      /* the disk's tracker has them */
    GPtrArray *views;   /* struct view, ours until linked */
    bool resize;
    uint64_t size;

    struct tracker *tracker; /* prepared: the disk's next, once the gate is closed */
    GPtrArray *list;         /* prepared: disk->bitmaps after it */
    GPtrArray *garbage;      /* struct bitmap: old bits, let go after the gates are open */
    bool closed;
};

/* Bits to be copied once the shadows are there. References. */
struct copy {
    struct bitmap *to, *from;
};

struct instant {
    GPtrArray *stages;
    GArray *copies; /* struct copy, in the order of the actions */
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

/* At the instant s->bits shall have, besides what they have, what `from` has: the bits are copied,
 * and until then the writes of `feeds` (struct feed) go into s->bits as well. */
void stage_merge(struct instant *i, struct staged_bitmap *s, struct bitmap *from, GArray *feeds);
/* Give s bits of its own, for `size` bytes, that will have all the old ones have. */
int stage_make_own(struct instant *i, struct staged_bitmap *s, uint64_t size, GError **err);

/* Shut the gates of all stages that have a tracker prepared, all before the first is drained, and
 * wait for the writes under way. -1: all are open again, *err says which disk's did not end. */
int stages_close_gates(struct instant *i, GError **err);
void stages_open_gates(struct instant *i);
/* Let writes go into the shadows too (one short closing of the gates, whatever their number), then
 * copy what was to be copied. -1: nothing has changed. */
int stages_copy_bits(struct instant *i, GError **err);
/* The disk's tracker for the prepared one, which then is the old one. Under the closed gate. */
static inline void stage_swap_tracker(struct stage *st)
{
    struct tracker *old = st->disk->tracker;

    st->disk->tracker = st->tracker;
    st->tracker = old;
}
/* Undo what stages_copy_bits did to the disk. */
void stage_remove_shadows(struct stage *st);

/* Change the size, if that is staged. All gates are closed. Can fail, with nothing changed. */
int stage_resize(struct stage *st, GError **err);

#endif
