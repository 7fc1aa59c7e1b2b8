/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model that test-model.c holds server/disk/ against.
 *
 * Each sector of each disk belongs to one *guest* (a writer thread), and a guest has one request in
 * flight. So whatever the threads do, the contents of a disk at an instant follow from one number a
 * guest: how many of its requests on that disk came before. Guests log what they do, a log for each
 * disk; when an instant's gates are closed the control thread notes that number for each log (the
 * *cut*), and later replays the logs up to there. What it gets is what a view must hold, byte for
 * byte, and what a bitmap must have recorded, bit for bit.
 *
 * A request is before the cut when it has entered the gate: the guest notes that itself, in the
 * hook. That the model depends on nothing else the engine says is what makes it a test.
 *
 * Threads: models (struct image, struct model_bitmap, struct model_disk.views) belong to the
 * control thread. Readers look at a model_view's image, which never changes once it is listed, and
 * hold it by `users`, under model.lock. A log is written by its guest and read by control, which
 * are ordered by its counters.
 */
#ifndef TESTS_RIGS_MODEL_H
#define TESTS_RIGS_MODEL_H

#include "server/disk/disk-private.h"
#include "server/disk/instant.h"
#include "server/disk/resize.h"
#include "tests/rigs/fake-backend.h"

#include <pthread.h> /* GLib's locks are not known to ThreadSanitizer */

#define GUESTS    3
#define READERS   2
#define LOG_SIZE  2048u /* requests that are remembered */
#define LOG_ROOM  96u   /* requests that may be ahead of the model */
#define MAX_VIEWS 5u    /* a disk */
#define MAX_BITS  6u    /* bitmaps a disk */
#define MAX_STILL 4u    /* frozen bitmaps a disk that are looked at again and again */

/* ---- random numbers: one generator a thread ---- */

struct noise {
    uint64_t state;
};

uint64_t noise_next(struct noise *n);
/* In [0, below). */
static inline uint64_t noise_below(struct noise *n, uint64_t below)
{
    return noise_next(n) % below;
}
static inline bool noise_once_in(struct noise *n, unsigned times)
{
    return noise_below(n, times) == 0;
}

/* ---- requests and images (model-image.c) ---- */

enum op_kind { OP_WRITE, OP_WRITE_NUL, OP_ZERO, OP_ZERO_HOLE, OP_TRIM };

struct op {
    enum op_kind kind;
    uint32_t length;
    uint64_t offset;
    uint64_t stamp; /* makes what OP_WRITE writes unlike any other */
    uint32_t block; /* what the image takes: blocks of so many bytes */
    bool marked;    /* bits were set (it got that far) */
    int error;
};

/* A disk's contents. */
struct image {
    uint64_t size, room;
    char *data;
    bool *written; /* a sector each; the rest are holes */
};

struct image *image_new(uint64_t size, uint64_t room);
struct image *image_copy(const struct image *from);
void image_free(struct image *i);
void image_apply(struct image *i, const struct op *op);
void image_grow(struct image *i, uint64_t size);
/* Is [offset, offset + length), cut to the image, all zero; is it all hole? */
bool image_is_zero(const struct image *i, uint64_t offset, uint64_t length);
bool image_is_hole(const struct image *i, uint64_t offset, uint64_t length);

/* What becomes of the image where it takes whole blocks only: [from, to) is changed by it, in whole
 * blocks; of them *inner to *inner_end without being read and written back. False: none is. */
bool op_reach(const struct op *op, uint64_t *from, uint64_t *to, uint64_t *inner,
              uint64_t *inner_end);

/* What OP_WRITE puts at `offset`. */
void op_fill(char *buf, const struct op *op);

/* ---- the whole ---- */

struct op_log {
    futex_word begun, entered, acked, applied; /* counts of requests */
    struct op ops[LOG_SIZE];                   /* request n is at n % LOG_SIZE */
};

struct model_bitmap {
    char *name;
    struct dirty_bitmap *db; /* a reference, once it is there */
    uint32_t granularity;
    bool recording;
    bool full; /* frozen, and all of it is dirty */
    unsigned busy;
    uint64_t size;
    uint64_t granules;
    bool *bits;
    bool persistent;
};

struct model_view {
    struct model_disk *disk;
    struct view *view;
    unsigned number, instant;
    struct view_options options;
    bool discard;
    struct image *image;
    bool *touched;      /* blocks that were written while it was the newest, or a newer one's after
                           that has gone */
    bool inexact;       /* some of them perhaps not */
    bool *dropped;      /* blocks trimmed by its client */
    bool was_trimmed;   /* any of them */
    unsigned faults;    /* model.faults before its birth */
    unsigned users;     /* readers; under model.lock */
    bool alone, doomed; /* one reader only; none any more */
};

struct model_disk {
    struct model *model;
    unsigned index;
    struct disk *disk;
    struct backend *backend;
    struct disk_hooks hooks;
    uint32_t min_block;
    uint64_t room;      /* how far it may grow */
    struct image *now;  /* as far as the logs are applied */
    GPtrArray *views;   /* struct model_view, oldest first; under model.lock */
    GPtrArray *bitmaps; /* struct model_bitmap, in order */
    GPtrArray *frozen;  /* the same, oldest first: they stand still */
    bool refuse_resize; /* the backend's next one */
    struct cover cover; /* where it has a store */
    struct op_log *logs[GUESTS];
    uint32_t cut[GUESTS];
    unsigned gates_closed; /* how often an instant closed them */
    GArray *runs[GUESTS];  /* struct run: which sectors are whose */
};

struct run {
    uint64_t offset, length;
};

struct model {
    uint64_t seed;
    uint64_t ops; /* for all guests together */
    unsigned n_disks;
    struct model_disk disks[8];
    struct scratch_pool *pool;
    char *dir;
    struct noise noise; /* the control thread's */
    unsigned instants, views_made;
    unsigned not_committed; /* instants that a store has failed */
    bool commit_fails;      /* stores fail; control thread, or one that works for it */
    GQueue plan;            /* char *: the last actions, for who has to find out what went wrong */
    atomic_uint faults;     /* scratch writes and reads made to fail */
    atomic_uint fault_rate; /* one in so many fails; 0: none */
    pthread_mutex_t told_lock;
    GHashTable *broken_told; /* names of views: VIEW_BROKEN was told */
    _Atomic uint64_t checks; /* by readers */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned parked, running; /* guests; under lock */
    bool pause;               /* under lock; `paused` says so without it */
    atomic_bool paused, ending;
};

/* Give a disk a store whose commits fail when m->commit_fails is set (model-store.c). */
void model_add_store(struct model_disk *d);

/* Any disk; the last, biggest one more often: there is room in it for what is rare. */
struct model_disk *model_random_disk(struct model *m, struct noise *n);

/* Say what is wrong, with the seed and the last requests near `offset` of the disk; abort. */
_Noreturn void model_fail(struct model *m, struct model_disk *d, uint64_t offset,
                          const char *format, ...) G_GNUC_PRINTF(4, 5);

/* Remember an action of the control thread. */
void model_plan(struct model *m, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ---- guests (model-guest.c) ---- */

struct guest {
    struct model *model;
    unsigned index;
    uint64_t quota;
    struct noise noise;
    GThread *thread;
    uint64_t done, failed;
    struct node_io *io[8];

    struct op_log *log; /* of the request under way, for the hooks */
    bool marked;
    bool changed; /* the image, in part at least: from here on nothing is made to fail */
};

/* Share out all sectors of a disk. */
void guests_settle(struct model_disk *d, struct noise *n);
void *guest_main(void *guest);
/* Hooks of the disk and of its backend; `opaque` is the model_disk. */
int model_at(void *opaque, enum disk_point point, uint64_t offset);
int model_backend_hook(void *opaque, enum fake_call call, uint64_t offset, uint64_t length);
/* Apply d's logs to the models up to `upto`, which is waited for. */
void model_catch_up(struct model_disk *d, const uint32_t upto[GUESTS]);
void model_catch_up_all(struct model *m);

/* ---- views (model-view.c) ---- */

/* What the instant has just made of d->now. */
struct model_view *model_view_new(struct model_disk *d, struct view *view, unsigned number,
                                  const struct view_options *options, bool discard,
                                  unsigned faults);
void model_view_free(struct model_view *v);
/* Compare all of it with the model: bytes and base:allocation. A broken one must say so, and must
 * have had a reason to break. */
void model_view_check(struct model_view *v);
/* Wait until nobody reads it, look a last time, delete it. Control thread. */
void model_view_delete(struct model_view *v);
/* A thread that reads views as they come. */
void *reader_main(void *reader);
struct reader {
    struct model *model;
    struct noise noise;
    GThread *thread;
};
/* While guests are parked: views have kept exactly what they must, and say of what was not written
 * since exactly what the disk said then. */
void model_check_views(struct model *m);

/* ---- bitmaps (model-bitmap.c) ---- */

struct model_bitmap *model_bitmap_new(struct model_disk *d, const char *name, uint32_t granularity,
                                      bool recording);
void model_bitmap_free(gpointer bitmap);
void model_bitmap_mark(struct model_bitmap *b, uint64_t offset, uint64_t length);
void model_bitmap_clear(struct model_bitmap *b);
void model_bitmap_merge(struct model_bitmap *b, const struct model_bitmap *source);
/* The disk has grown. */
void model_bitmap_grow(struct model_bitmap *b, uint64_t size);
/* The disk's list is the model's, and each bitmap has what it must; those that record may have more
 * by now, unless guests are parked (`all`). */
void model_check_bitmaps(struct model_disk *d, bool all);

/* The disk has one more that stands still; the oldest goes. */
void model_bitmap_frozen(struct model_disk *d, struct model_bitmap *b);

/* ---- instants (model-instant.c) ---- */

/* A transaction, staged in the engine and in the model. What an action returns is what the model
 * foresees (or the test fails); after a false one it can only be aborted. */
struct txn;
struct txn *txn_new(struct model *m);
bool txn_add(struct txn *t, struct model_disk *d, const char *name, uint32_t granularity,
             bool recording);
bool txn_remove(struct txn *t, struct model_disk *d, const char *name);
bool txn_clear(struct txn *t, struct model_disk *d, const char *name);
bool txn_record(struct txn *t, struct model_disk *d, const char *name, bool recording);
bool txn_merge(struct txn *t, struct model_disk *d, const char *target, struct model_disk *source,
               const char *name);
/* `name` NULL: all is dirty. */
bool txn_freeze(struct txn *t, struct model_disk *d, const char *name);
void txn_view(struct txn *t, struct model_disk *d, const struct view_options *options,
              bool discard);
void txn_commit(struct txn *t);
void txn_abort(struct txn *t);

/* A random one over some disks: done, refused or given up. */
void model_transaction(struct model *m);
/* Grow a disk, or try what must be refused. */
void model_resize(struct model_disk *d);

/* ---- a chain of incremental copies (model-chain.c) ---- */

/* Copies of all disks, brought up to date in each round by that round's dirty extents, read from
 * that round's views, must be equal to those views. Needs no model. */
struct chain;
struct chain *chain_new(struct model *m);
void chain_step(struct chain *c);
unsigned chain_rounds(const struct chain *c);
void chain_free(struct chain *c);

#endif
