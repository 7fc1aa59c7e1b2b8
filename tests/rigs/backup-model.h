/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model that test-model.c holds checkpoints and backup sessions against.
 *
 * A disk is an array of sectors. The model knows the *version* of each sector (the number that fills
 * it; 0: zeroes) and when it was changed last. An instant is a copy of these arrays. From two of them
 * follows what a session's view must hold, and what its frozen map must have, bit for bit.
 *
 * Images and model are in memory that is shared by processes. The server is one of them, the child,
 * and is killed again and again; the next child finds what it has left. A step that was cut by the
 * kill has happened wholly or not at all: `change` and `pending` say which step that was, and the next
 * child learns from the server what has become of it.
 *
 * The child's main thread is the control thread and also the only guest. While a command is under way,
 * the guest goes on between two steps of the main loop. So writes fall between all the steps of an
 * instant, and the hook at the flip says which of them came before it.
 */
#ifndef TESTS_RIGS_BACKUP_MODEL_H
#define TESTS_RIGS_BACKUP_MODEL_H

#include "server/backup/backup.h"
#include "server/disk/disk-private.h"
#include "server/state/store.h"

#include <stdatomic.h>

#define DISKS       3u
#define SECTOR      512u
#define SECTORS     6144u         /* most of a disk: 3 MiB */
#define GRANULES    (SECTORS / 8) /* of 4 KiB, the finest that is used */
#define COARSEST    65536u
#define CHECKPOINTS 8u
#define SESSIONS    4u
#define BITMAPS     3u /* of users, a disk */
#define ENDED       8u /* sessions that have ended and are remembered */
#define MAX_NAME    16u

struct content {
    uint32_t sectors;
    uint32_t version[SECTORS];
    uint32_t changed[SECTORS]; /* model.clock then */
};

struct model_checkpoint {
    bool used;
    bool pending;     /* a session has begun it */
    uint32_t serial;  /* its name is "c" and this */
    uint32_t instant; /* model.clock then: later changes have a higher number */
    uint32_t granularity;
    bool on[DISKS];
    struct content at[DISKS];
};

struct model_session_disk {
    bool used;
    uint32_t base;        /* serial of a checkpoint; 0: in full */
    bool asked;           /* a base was asked for */
    uint32_t granularity; /* of `dirty` */
    bool dirty[GRANULES];
    struct content at;
    bool dropped[SECTORS]; /* trimmed by its client */
};
struct model_session {
    bool used;
    uint32_t serial; /* its id is "s" and this */
    bool discard, strict;
    bool leased, limited; /* it may end by itself */
    uint32_t checkpoint;  /* serial; 0: none */
    struct model_session_disk disks[DISKS];
};

/* A bitmap of a user. */
struct model_bitmap {
    bool used;
    uint32_t serial; /* its name is "b" and this */
    bool recording, persistent;
    uint32_t granularity;
    bool dirty[GRANULES];
};

enum bitmap_act {
    BITMAP_ADD,
    BITMAP_REMOVE,
    BITMAP_CLEAR,
    BITMAP_RECORD,   /* or not, as `after` has it */
    BITMAP_MERGE,    /* from `source` */
    BITMAP_POPULATE, /* the guest rests */
};

enum pending_kind {
    PENDING_NOTHING,
    PENDING_CREATE, /* checkpoint `slot` */
    PENDING_DELETE, /* the same */
    PENDING_BEGIN,  /* session `slot` */
    PENDING_END,    /* the same */
    PENDING_BITMAP, /* bitmap `slot` of `disk` becomes `after` */
    PENDING_RESIZE, /* `disk` becomes `sectors` long */
    PENDING_KINDS,
};

struct pending {
    enum pending_kind kind;
    unsigned disk, slot;
    bool flipped;
    bool commit;
    uint32_t sectors;
    uint32_t checkpoint; /* of a session that begins: its slot + 1; 0: none */
    enum bitmap_act act;
    bool from_checkpoint;
    unsigned source;           /* a slot, of a bitmap of the disk or of a checkpoint */
    struct model_bitmap after; /* its bits: since the flip */
};

struct model {
    /* What the world outside of the server has. */
    char image[DISKS][SECTORS * SECTOR];
    bool written[DISKS][SECTORS]; /* the others are holes */
    uint32_t image_sectors[DISKS];
    uint64_t image_changes[DISKS];
    int64_t image_time[DISKS]; /* its mtime */
    atomic_long fuse;          /* at 0 the process kills itself */

    uint64_t seed, random;
    uint32_t clock, serials;
    uint64_t steps, limit;
    struct content now[DISKS];
    struct model_checkpoint checkpoints[CHECKPOINTS];
    struct model_session sessions[SESSIONS];
    struct model_bitmap bitmaps[DISKS][BITMAPS];
    struct pending pending;
    struct {
        unsigned disk;
        uint32_t first, n; /* sectors; n 0: none is under way */
        uint32_t version;
    } change;
    struct {
        uint32_t serial; /* 0: none */
        bool committed;
        bool wanted; /* by the model, or it has ended by itself */
    } ended[ENDED];
    bool may_have_orphans; /* the folder: a resize was cut; the next start removes them */

    struct {
        unsigned kills, stops, instants, begun, committed, aborted, ended, resumed, refused;
        unsigned cut_changes, cut[PENDING_KINDS];
        uint64_t compared; /* sectors */
    } count;
};

/* The server of one child. */
struct life {
    struct model *m;
    const char *top; /* a folder */
    struct store *store;
    struct server *server;
    struct backup *backup;
    struct disk *disks[DISKS];
    struct node_io *io[DISKS]; /* the guest's; NULL while a disk is resized */
    struct disk_hooks hooks;
    bool quiet;    /* the guest rests */
    bool expected; /* of the change under way: it will be done */
    bool unsure;   /* a session of its disks is ending by itself: it may be refused all the same */
    struct {       /* bits that may be set or not: a kill has cut a change */
        uint32_t first, n; /* sectors; n 0: none */
    } maybe[DISKS];
};

uint64_t model_random(struct model *m);
static inline uint32_t model_below(struct model *m, uint32_t below)
{
    return (uint32_t)(model_random(m) % below);
}
static inline bool model_once_in(struct model *m, uint32_t times)
{
    return model_below(m, times) == 0;
}

/* Say what is wrong, with the seed, and abort. */
_Noreturn void model_fail(struct model *m, const char *format, ...) G_GNUC_PRINTF(2, 3);
#define model_check(m, condition, ...)                                                             \
    do {                                                                                           \
        if (!(condition))                                                                          \
            model_fail(m, __VA_ARGS__);                                                            \
    } while (0)

/* ---- the model alone (backup-model.c) ---- */

struct model_checkpoint *model_checkpoint(struct model *m,
                                          uint32_t serial); /* NULL: there is none */
/* A session has it for its base, on this disk or (DISKS) on any. */
bool model_is_base(const struct model *m, uint32_t serial, unsigned disk);
/* The last one before it that is not pending; NULL: there is none. */
const struct model_checkpoint *model_parent(const struct model *m,
                                            const struct model_checkpoint *c);
/* The guest has changed sectors. */
void model_changed(struct model *m, unsigned disk, uint32_t first, uint32_t n, uint32_t version);
/* Sectors of a bitmap. */
void model_mark(struct model_bitmap *b, uint32_t first, uint32_t n);
void model_resized(struct model *m, unsigned disk, uint32_t sectors);
/* The instant of what is pending. */
void model_flip(struct model *m);
/* The checkpoint's bits of a disk, as they must be. */
void model_expected(const struct model_checkpoint *c, const struct content *now, unsigned disk,
                    bool dirty[GRANULES]);
/* The session has ended. `wanted`: because the model has ended it. */
void model_ended(struct model *m, struct model_session *n, bool committed, bool wanted);
static inline uint32_t model_granules(uint32_t sectors, uint32_t granularity)
{
    return (sectors * SECTOR + granularity - 1) / granularity;
}

/* ---- images (backup-image.c) ---- */

struct backend *backup_image_new(struct model *m, unsigned disk);
/* A point at which the process may be killed. Any thread. */
void fuse_burn(void);
/* The main thread changes the model, unless it is in the server: only then do other threads kill the
 * process, so that the model is never left half changed. Calls are counted. */
void model_lock(void);
void model_unlock(void);
void fuse_set(struct model *m, long points); /* < 0: it does not burn */

/* ---- the server (backup-life.c) ---- */

void life_begin(struct life *l, struct model *m, const char *top);
/* End it in order. */
void life_end(struct life *l);
/* Carry out a change of the disks `on`, while the guest goes on: `stage` is called when it is its
 * turn. True: it is done. False: it was refused, or has failed; *error (may be NULL) says why. */
bool life_change(struct life *l, const bool on[DISKS],
                 int (*stage)(struct life *l, struct instant *i, void *opaque, GError **err),
                 void *opaque, GError **error);
/* Run the main loop until *done is set. The guest goes on. */
void life_wait(struct life *l, const bool *done);
void life_open_io(struct life *l, unsigned disk);
void life_close_io(struct life *l, unsigned disk);

/* ---- steps (backup-guest.c, backup-steps.c, backup-session-steps.c) ---- */

void guest_step(struct life *l);
/* Write all of a range anew, so that it is known what it holds. */
void guest_overwrite(struct life *l, unsigned disk, uint32_t first, uint32_t n);
void bitmap_step(struct life *l);
void resize_step(struct life *l);
void checkpoint_step(struct life *l);
void session_step(struct life *l);
/* Wait until the lease of some session has ended, if one has a lease. */
void lease_step(struct life *l);
/* Trim a part of a session's view. */
void trim_step(struct life *l);
/* End all sessions. */
void sessions_end_all(struct life *l);
/* What sessions that may end by themselves have become, as far as that is known now. */
void sessions_look(struct life *l);
/* The same, and wait until nothing is left of those that have ended. */
void sessions_settle(struct life *l);
/* At the stage of a change: how it is going to end. */
void expect_done(struct life *l, bool expected);
/* At its end. */
void expect_check(struct life *l, bool done, const char *what, const GError *error);

/* ---- comparing (backup-check.c, backup-learn.c) ---- */

#define MODEL_REASON "the model wants it"

/* Compare a part of a session's view with the model, or all views and maps. */
void view_step(struct life *l);
void check_session(struct life *l, struct model_session *n);
/* All lists, and all bits. */
void check_all(struct life *l);
/* Is this what the bitmap must be? */
bool check_bitmap(struct life *l, unsigned disk, struct dirty_bitmap *db,
                  const struct model_bitmap *b);
/* After a kill: what has become of the step that was cut. */
void learn(struct life *l);

#endif
