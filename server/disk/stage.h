/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of an instant share. From the ground up: stage.c (what each disk will be),
 * stage-scratch.c (where new views keep blocks), stage-populate.c (what an image has allocated),
 * stage-merge.c (bits that are copied), stage-freeze.c (bits that stand still), stage-quiesce.c (guests
 * that stand still), stage-leave.c (views that leave), stage-size.c (the image's size), stage-store.c
 * (what the store does before the flip and after it), stage-flip.c (the flip and what follows it),
 * instant.c (actions), instant-run.c (the steps), resize.c. See instant.c for the design. Control
 * thread, but for what is marked otherwise.
 */
#ifndef DISK_STAGE_H
#define DISK_STAGE_H

#include "server/disk/disk-private.h"

struct instant;

struct staged_bitmap {
    struct dirty_bitmap *db; /* a reference */
    struct bitmap *bits;     /* a reference: what db->bits will be; NULL: as db->bits */
    bool ours;               /* bits were made by this instant, and nothing is copied from them */
    bool fresh;              /* bits were made by this instant: db->bits are others */
    bool recording;
    bool persistent;
    char *reason;    /* why it will be inconsistent; NULL: it will be good, or is not asked yet */
    bool frozen;     /* it is none of the disk's, and stands still from the instant on */
    bool lost;       /* frozen: bits were lost while they were copied to it */
    char *needed;    /* frozen: see struct freeze_options */
    bool changes;    /* some action wants it changed: it must not be busy at the flip */
    GArray *sources; /* struct source */
    GPtrArray *origins; /* struct dirty_bitmap, references: from whose bits these are made */
};

/* Writes to `disk` go into a staged bitmap's bits before the instant, as into granules of at least
 * `grain`: one that is merged from a coarser bitmap has whole granules of that one. */
struct source {
    struct disk *disk;
    uint32_t grain;
};

/* A function of a user of the instant. */
struct hook {
    void (*fn)(void *opaque);
    void *opaque;
};

struct prepare_hook {
    int (*fn)(void *opaque, GError **err);
    void *opaque;
};

/* A pair of functions of a user: guests stand still from one to the other. */
struct quiesce_hook {
    int (*freeze)(void *opaque, GError **err);
    void (*thaw)(void *opaque);
    void *opaque;
};

struct stage {
    struct instant *instant;
    struct disk *disk;
    GPtrArray *bitmaps; /* struct staged_bitmap */
    GPtrArray *removed; /* struct dirty_bitmap, references: to be removed from the disk */
    GPtrArray *frozen;  /* struct staged_bitmap: none of the disk's */
    GArray *shadows;    /* struct mark, references: recorded into too, until the instant */
    bool shadowed;      /* the disk's tracker has them */
    GPtrArray *views;   /* struct view; ours until they are the disk's */
    bool linked;        /* they are in the chain */
    GPtrArray *leaving; /* struct view: leave the chain at the instant */
    GArray *at_flip;    /* struct hook */

    bool flips;              /* something of it changes at the flip */
    struct tracker *tracker; /* prepared: the disk's next, once the gate is closed */
    struct tracker *last;    /* prepared: the one after that, once it is published */
    GPtrArray *list;         /* prepared: disk->bitmaps after it */
    GPtrArray *garbage;      /* struct bitmap: old bits, let go after the gates are open */

    /* What it waits for in a phase. */
    bool closes;      /* its gate is to be shut */
    bool shut;        /* its gate is shut, and nobody is to be inside */
    bool asks;        /* its disk's scratch is to be there */
    atomic_uint come; /* that is so; a word of its own, other threads set it */
    bool holds;       /* it holds its disk's scratch */
};

/* Bits to be copied once the shadows are there. References. */
struct copy {
    struct bitmap *to;
    struct bitmap *from; /* NULL: what the image has allocated is dirty */
    struct disk *image;
    struct staged_bitmap *frozen; /* whose they are; NULL: of one of the disk's */
    const char *name;             /* of the bitmap that gets them; its stage's */
};

/* What an instant does in one go between two times that it waits (instant-run.c). */
struct phase {
    const char *working; /* what its long work is, for a message */
    const char *left;    /* what stays behind if it fails, where it undoes something */
    /* Choose the gates to be shut (stage.closes), or the disks whose scratch is to be there
     * (stage.asks), and prepare what is flipped. False: nothing to do in this phase. */
    bool (*prepare)(struct instant *i);
    /* Long work that can fail, or NULL. Any thread; the gates are shut and drained. */
    int (*closed_work)(struct instant *i, GError **err);
    /* The gates are shut and drained. If it fails, it has flipped nothing. */
    int (*flip)(struct instant *i, GError **err);
    /* Long work that can fail, or NULL. Any thread; the gates are open again. */
    int (*work)(struct instant *i, GError **err);
    bool must_work; /* if no thread can be made for it, the control thread does it, and waits */
};

enum instant_at { AT_BEGIN, AT_WAIT, AT_CLOSED_WORK, AT_WORK, AT_END };

struct instant {
    GPtrArray *stages;
    GArray *copies;                        /* struct copy, in the order of the actions */
    GArray *on_commit, *on_abort, *on_end; /* struct hook */

    GArray *on_prepare; /* struct prepare_hook */

    GArray *records;   /* struct state_record; kind and name are ours */
    GArray *quiesce;   /* struct quiesce_hook */
    unsigned quiesced; /* for so many of them `freeze` was called, and `thaw` not yet */

    /* The store of its disks; NULL: they have none, or it has no part in this. */
    const struct disk_state *state;
    struct state_transaction *transaction;
    bool prepared;       /* the store was, and hears of the end */
    bool flipped;        /* and, where there is a store, to be published or undone */
    bool committed;      /* the store has done its part */
    GError *uncommitted; /* it could not, but the instant goes on: the image was shrunk */

    /* A resize: of the only stage. */
    bool resizes;
    uint64_t size, old_size;
    bool grown;        /* the image has the new size, and is to be taken back on failure */
    bool shrunk;       /* the image has the new size, and keeps it */
    bool resize_begun; /* the store knows of it */

    /* How far it has come. */
    const struct phase *const *phase; /* the present one; ends with NULL */
    enum instant_at at;
    gint64 waits_since;  /* when the gates of this phase were shut */
    atomic_uint awaited; /* stages that still wait, and 1 until all have begun to */
    GThread *worker;     /* of the long work; NULL: none */
    atomic_bool worked;  /* it has ended */
    int result;          /* its result */
    GError *work_error;
    GError *error; /* why it fails */
    bool failed;
    atomic_bool cancelled; /* long work looks at it, and ends soon */
    bool waited_for;       /* whoever runs it does the long work as well */
    void (*wake)(void *opaque);
    void *opaque;
};

/* ---- stages (stage.c) ---- */

void instant_free(struct instant *i);
/* The stage of a disk, made when it is first asked for. NULL and *err: another instant has it. */
struct stage *stage_of(struct instant *i, struct disk *d, GError **err);
/* The same, NULL if it was not made yet. */
struct stage *stage_have(struct instant *i, struct disk *d);

/* Bits that a bitmap records in from the instant on: all of them are made here. Persistent ones are
 * the store's. */
struct bitmap *stage_new_bits(struct stage *st, const char *name, bool persistent, uint64_t size,
                              uint32_t granularity, GError **err);
/* Give it clean ones, in place of those that it has: it begins anew. */
int stage_clear(struct stage *st, struct staged_bitmap *s, GError **err);
/* Is anything put in place of what it has? Else the instant leaves the bitmap alone. */
bool stage_replaces(const struct staged_bitmap *s);
/* Why it would be inconsistent if it took effect now; g_free(). NULL: it is good. Any thread. */
char *stage_reason(const struct stage *st, const struct staged_bitmap *s);
/* Not busy, nor being changed? */
int stage_check_free(struct dirty_bitmap *db, GError **err);
/* Good, as the actions so far have left it? */
int stage_check_good(const struct stage *st, const struct staged_bitmap *s, GError **err);
/* A new staged bitmap, which is in no list; takes over both references. */
struct staged_bitmap *staged_bitmap_new(struct dirty_bitmap *db, struct bitmap *bits,
                                        bool recording);
/* The same, of the disk's bitmaps. */
struct staged_bitmap *stage_bitmap(struct stage *st, struct dirty_bitmap *db, struct bitmap *bits,
                                   bool recording);
/* As the actions so far have left it; NULL and *err: not found. */
struct staged_bitmap *stage_find(struct stage *st, const char *name, GError **err);
/* The same, of one that is not busy. */
struct staged_bitmap *stage_find_free(struct stage *st, const char *name, GError **err);
/* The same, of one that is not inconsistent either. */
struct staged_bitmap *stage_find_good(struct stage *st, const char *name, GError **err);
/* The disk's tracker for the prepared one, which then is the old one. Under the closed gate. */
void stage_swap_tracker(struct stage *st);
/* The disk's tracker for `tracker`, under the open gate. Writers who are inside may go on with the
 * one before, which is freed when they have left. */
void stage_replace_tracker(struct stage *st, struct tracker *tracker);

/* ---- scratch for new views (stage-scratch.c) ---- */

/* First of all: nothing has been done if it fails. */
extern const struct phase phase_scratch;

/* ---- merges (stage-merge.c) ---- */

/* Add to s->bits, by the time of the instant, what `from` has: the bits are copied, and until the
 * instant the writes of `sources` (struct source) go into s->bits as well. */
void stage_merge(struct instant *i, struct staged_bitmap *s, struct bitmap *from, GArray *sources);
/* What the image of its disk has allocated at the instant is dirty. Its bits are its own. */
void stage_populate(struct stage *st, struct staged_bitmap *s);
/* What becomes of those from whose bits `of` is made matters to s, too. */
void stage_add_origins(struct staged_bitmap *s, const struct staged_bitmap *of);
/* Give s bits of its own, for `size` bytes, persistent if it is to be so. They will have what the old
 * ones have. */
int stage_make_own(struct stage *st, struct staged_bitmap *s, uint64_t size, GError **err);
/* Let writes go into the shadows too (one short closing of the gates, whatever their number), then
 * copy what is to be copied. */
extern const struct phase phase_shadow;
/* Undo what it, or the flip, did to the disk's tracker. Waits for nobody. */
void stage_remove_shadows(struct stage *st);

/* ---- what an image has allocated (stage-populate.c) ---- */

/* All, where the image cannot tell. Ends early when the instant is cancelled. A worker. */
void stage_mark_allocated(struct instant *i, struct disk *d, struct bitmap *bits);

/* ---- frozen bitmaps (stage-freeze.c) ---- */

/* Before anything is flipped, under the shut gates: which are good. -1 and *err: one that is not has to
 * be. */
int stage_ask_frozen(struct stage *st, GError **err);
/* They stand still from here on. Under the closed gate. */
void stage_flip_frozen(struct stage *st);

/* ---- guests that stand still around the flip (stage-quiesce.c) ---- */

extern const struct phase phase_quiesce; /* the last one before the flip */
extern const struct phase phase_thaw;    /* after the flip, or the first one after a failure */

/* ---- views that leave (stage-leave.c) ---- */

/* They are marked, and what they have kept goes to older views that need it. */
extern const struct phase phase_leave;

/* ---- the store (stage-store.c) ---- */

/* Find the instant's store, if it changes a persistent bitmap, a size or a record, and note from now on
 * what the store says of failures. */
void stage_begin_store(struct instant *i);
extern const struct phase phase_attach;  /* new persistent bits get files */
extern const struct phase phase_prepare; /* what must be written before the flip */
extern const struct phase phase_commit;  /* what makes it durable, after the flip */
/* Tell the store how it ended. */
void stage_end_store(struct instant *i);

/* ---- the instant itself (stage-flip.c) ---- */

extern const struct phase phase_flip;
extern const struct phase phase_shrink;  /* the same, after the image was shrunk */
extern const struct phase phase_publish; /* where there is a store: after the commit */
/* After a flip that was not committed: the views that came with it leave the chain. */
extern const struct phase phase_drop_views, phase_unlink_views;
/* The bitmaps are no longer being changed; views that could not leave the chain are its disk's. */
void stage_end_flip(struct stage *st);

/* ---- the image's size (stage-size.c) ---- */

/* The store is told first. */
extern const struct phase phase_resize;
/* The image grows, then bitmaps are made for what is new; where it is to shrink only the latter. */
extern const struct phase phase_grow;
extern const struct phase phase_ungrow; /* after a failure */
/* Shrink the image, under the closed gate. Any thread. Nothing has changed if it fails. */
int stage_shrink(struct instant *i, GError **err);
/* What the store is about to commit says the new size, if there is one: the image is to have it after
 * a power loss, too. A worker. */
int stage_flush_size(struct instant *i, GError **err);
/* Tell the new size, if there is one: with the flip, or when it is published. */
void stage_tell_size(struct instant *i);
/* Tell the store if a resize that it knows of has come to nothing. */
void stage_end_resize(struct instant *i);

#endif
