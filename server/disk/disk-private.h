/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a disk works inside, for the files of server/disk/ and their tests.
 *
 * Who may change what:
 *
 * - newest, view.older, view.newer, tracker: the control thread, under the closed gate (gate.h).
 *   Writers, inside the gate, read them as they please; view readers, inside `readers` (a grace),
 *   follow view.newer.
 *
 * - view.map[]: by compare-and-swap, see view-keep.c.
 *
 * - bitmaps, views (the lists): under `lock`.
 *
 * - a dirty_bitmap's fields: under its own lock.
 *
 * Lock order: chain_turn; chain_lock; gates, in any order, because inside one nobody waits for
 * another; a range of `changing`; `lock`; a dirty_bitmap's or a view's lock; the registry's. The
 * lock of a node's list of node_ios (node-stats.c) is a leaf. I/O threads take none of these on the
 * common way, but for the range where an image takes whole blocks only.
 */
#ifndef DISK_DISK_PRIVATE_H
#define DISK_DISK_PRIVATE_H

#include "common/base/patience.h"
#include "common/base/range-lock.h"
#include "server/backend/backend.h"
#include "server/disk/dirty-bitmap.h"
#include "server/disk/gate.h"
#include "server/disk/grace.h"
#include "server/disk/scratch.h"
#include "server/disk/types.h"
#include "server/disk/view-quota.h"
#include "server/state/state.h"

#include <pthread.h>

/* ---- points where tests stand between two steps ---- */

enum disk_point {
    POINT_SCRATCH_MAKING, /* about to make the scratch file, no lock held */
    POINT_WRITE_ENTERED,  /* inside the gate, nothing done */
    POINT_KEEP_CLAIMING,  /* a block was marked copying, the view's state not yet looked at again */
    POINT_KEEP_CLAIMED,   /* a block is `copying`, its old data not yet read */
    POINT_KEEP_READ,      /* old data read, not yet in scratch */
    POINT_SCRATCH_WRITE,  /* about to write scratch: a negative errno makes it fail so */
    POINT_WRITE_MARKED,   /* old data kept, bits set, backend not yet called */
    POINT_VIEW_BASE_READ, /* a view's reader between its read of the disk and its second look */
    POINT_SHADOWED,       /* an instant: writes go into the shadows too, nothing is copied yet */
    POINT_BITS_COPYING,   /* an instant: a piece of a long copy of bits is done */
    POINT_BITS_COPIED,    /* an instant: bits are copied, the gates are still open */
    POINT_SHRINKING,      /* a resize: gates closed, nobody told yet, nothing done */
    POINT_GATES_CLOSED,   /* an instant: all gates closed, nothing flipped */
    POINT_FLIPPED,        /* an instant over a store: gates open again, not yet committed */
    POINT_COMMITTED,      /* the same: committed, not yet published */
    POINT_PUBLISHING,     /* the same: asked for the last time what has broken, nothing published */
    POINT_HANDED_OVER,    /* a deletion: blocks went to the older view, the chain is as it was */
    POINT_VIEW_TRIMMED,   /* a piece of a long TRIM of a view is done, its lock not held */
    POINT_EDGE_READ,      /* an unaligned change: blocks read, not yet written back */
    POINT_MAP_LOST,       /* a view's map was cut short, and the views are not broken yet */
};

struct disk_hooks {
    int (*at)(void *opaque, enum disk_point point, uint64_t offset);
    void *opaque;
};

/* Bits that writes go into, each rounded out to `grain` (a power of 2) before: that of the bits
 * themselves, or a coarser one (instant.c, shadows). */
struct mark {
    struct bitmap *bits;
    uint32_t grain;
};

/* What all writes are recorded in now. Immutable; holds references. */
struct tracker {
    unsigned n;
    struct mark marks[];
};

/* Other guests' writes wait meanwhile, and guests give up after 30 s or so. */
#define DRAIN_USEC (10 * G_USEC_PER_SEC)
/* Nobody waits but the command. */
#define SCRATCH_USEC (10 * G_USEC_PER_SEC)
/* With the wait for one that is being made, it is less than the patience of server/start/close-disks.c. */
#define LEAVING_USEC (3 * G_USEC_PER_SEC / 2)

/* Handles of clients that are being opened and are late (open-handle.c). */
struct opens {
    pthread_mutex_t lock; /* a leaf, but for a patience's (common/base/patience.h) */
    pthread_cond_t changed;
    GPtrArray *late;
};

/* The scratch that a disk's views share, and who holds it: see disk-scratch.h. */
struct scratch_holding {
    pthread_mutex_t lock; /* a leaf, but for what `ready` takes; all below, and disk->scratch */
    pthread_cond_t changed;
    unsigned holders;
    bool may_block; /* whoever asks for it waits: tests, and the disk's end */
    bool making;    /* somebody makes it just now */
    unsigned
        leaving;   /* earlier ones whose files survive the process, and that threads remove now */
    GError *error; /* why it could not be made for those who hold it */
    void (*ready)(void *opaque); /* NULL: nobody waits for it */
    void *opaque;
    GThread *maker; /* the last thread that made it, to be joined; control thread */
};

struct disk {
    struct node node;
    struct gate gate;
    struct range_lock changing; /* inside the gate; only where the image's min_block is not 1 */
    struct tracker *_Atomic tracker;
    GPtrArray *retired_trackers; /* replaced under the open gate; freed when it is closed */
    GPtrArray *strays;           /* struct view: given up, still in the chain; the instant's */
    uint64_t sequence;           /* of the newest view that there was; control thread */
    char *lost_views;            /* why those of the last server cannot go on; NULL */
    bool keeps;              /* at its end: views and their scratch are left for the next server */
    struct instant *instant; /* which has actions on this disk; control thread */
    struct view *_Atomic newest;
    const struct disk_hooks *hooks; /* NULL but in tests */

    struct backend *backend;
    struct backend_handle *handle; /* the server's own; all clients' where it is not coherent */
    bool readonly;
    uint32_t unit; /* bytes that copy-before-write keeps at once: 4096 or the image's min_block */
    unsigned unit_shift;
    _Atomic uint64_t size;
    atomic_uint ios;     /* open node_io of the disk itself */
    gint64 drain_usec;   /* how long a command waits for writes under way before it gives up */
    gint64 scratch_usec; /* the same, for the scratch to be made */
    gint64 leaving_usec; /* the disk's end, for earlier ones to be removed */

    struct grace readers;
    /* Held by whoever takes blocks out of a view, for a TRIM or a deletion, part by part. Taken
     * with chain_turn held, so that a long TRIM lets others have their turn between two parts. */
    pthread_mutex_t chain_turn, chain_lock;
    _Atomic uint64_t handovers; /* see view_resolve */
    struct scratch_pool *pool;
    struct scratch *scratch; /* NULL: nobody holds it, it is being made, or it cannot be made */
    struct scratch_holding holding;
    struct disk_state state; /* as of disk_restore; without `ops`: none */
    bool settled;            /* disk_settle has been, and the disk does not hang */
    struct opens opens;
    struct disk_events events;
    struct log_limit read_errors, write_errors;

    pthread_mutex_t lock;
    GPtrArray *bitmaps; /* struct dirty_bitmap, references */
    GPtrArray *views;   /* struct view, oldest first; deleted ones are not in it */
    GPtrArray *breaks; /* struct bits_break, since the present instant was started; NULL: none is */
};

static inline int disk_at(struct disk *d, enum disk_point point, uint64_t offset)
{
    if (__builtin_expect(d->hooks != NULL, 0))
        return d->hooks->at(d->hooks->opaque, point, offset);
    return 0;
}

/* One client's way to a disk or a view. */
struct node_io {
    struct node *node;
    struct disk *disk;
    struct view *view;             /* NULL: the disk itself */
    struct backend_handle *handle; /* its own, or the disk's */
    bool own_handle;
    bool sharing;               /* it should have had its own */
    struct client_copy *client; /* of a handle of its own; NULL: the caller's */
    bool discard;               /* a view that takes TRIM */
    struct gate_slot *slot;     /* a view's is at no gate, it only counts */
    struct live_line *line;     /* of the disk's store; NULL: there is none, or it is a view's */
    GList link;                 /* of node->ios */
    struct node_info info;
    atomic_bool cache_unknown; /* node_cached_fd: the kernel does not tell */
};

/* ---- clients' own handles (open-handle.c) ---- */

/* Who a handle was opened for, for as long as the handle lives. */
struct client_copy {
    struct backend_client client;
    int duplicate; /* its socket while the handle is being opened; else -1 */
};
void client_copy_free(struct client_copy *c); /* NULL: nothing */

/* A disk's end waits so long for openings that are late. */
#define OPENS_END_SECONDS 2

void opens_init(struct opens *opens);
/* False: there are late ones left, and their threads use the disk and its backend. */
bool opens_end(struct opens *opens);
void opens_destroy(struct opens *opens); /* after it has said true */

/* Open a handle for `client` as node_io_open_within does. *copy is its handle's client from then
 * on; the socket stays the caller's. -1: it cannot be had, or not in time. */
int open_handle(struct disk *d, const struct backend_client *client, struct patience *patience,
                int64_t until, struct backend_handle **handle, struct client_copy **copy,
                GError **err);

/* ---- trackers (tracker.c) ---- */

/* `marks`: GArray of struct mark, their bits borrowed. */
struct tracker *tracker_new(GArray *marks);
/* Add the bits of all bitmaps of the disk that record now. Control thread. */
void disk_add_recorded(struct disk *d, GArray *marks);
void tracker_free(struct tracker *t);
GArray *mark_array_new(void);
void mark_array_add(GArray *marks, struct bitmap *bits, uint32_t grain);

static inline void tracker_mark(const struct tracker *t, uint64_t offset, uint64_t length)
{
    for (unsigned i = 0; i < t->n; i++) {
        uint64_t grain = t->marks[i].grain, skip = offset & (grain - 1);

        bitmap_set(t->marks[i].bits, offset - skip, (skip + length + grain - 1) & ~(grain - 1));
    }
}

/* ---- dirty bitmaps ---- */

struct dirty_bitmap {
    atomic_uint references;
    char *name;
    uint32_t granularity;
    pthread_mutex_t lock;
    struct bitmap *bits; /* NULL: it was removed, or it is inconsistent */
    bool full;           /* all of `size` bytes is dirty; there are no bits */
    uint64_t size;
    bool recording; /* if it is inconsistent: once it has been cleared */
    bool persistent;
    bool readonly; /* a checkpoint's: only actions for checkpoints change it */
    bool removed;  /* from its disk; its bits are gone */
    bool changing; /* an instant that changes it is between its flip and its end */
    char *reason;  /* why it is inconsistent; NULL: it is good */
    unsigned busy;
};

/* Takes over the reference to `bits`. */
struct dirty_bitmap *dirty_bitmap_new(const char *name, struct bitmap *bits, bool recording);
/* All of it is dirty, for good. That takes no memory. */
struct dirty_bitmap *dirty_bitmap_new_full(const char *name, uint64_t size, uint32_t granularity);
/* What the store has found. */
struct dirty_bitmap *dirty_bitmap_restore(const struct disk_restored *found);
/* What an instant puts in place: takes over `bits` and `reason`, returns the old bits. */
struct bitmap *dirty_bitmap_replace(struct dirty_bitmap *db, struct bitmap *bits, bool recording,
                                    bool persistent, char *reason);
/* It is no longer its disk's. Returns its bits. */
struct bitmap *dirty_bitmap_remove(struct dirty_bitmap *db);
void dirty_bitmap_changing(struct dirty_bitmap *db, bool changing);
/* It is a checkpoint's from now on. */
void dirty_bitmap_set_readonly(struct dirty_bitmap *db);
/* It becomes inconsistent if it has these bits (NULL: if it is persistent). False: it has not
 * changed. */
bool dirty_bitmap_break(struct dirty_bitmap *db, const struct bitmap *bits, const char *reason);
/* Are writes to be recorded in it? Also in one that is persistent and inconsistent: if the store does
 * not know that it is, it comes back as good, and then has all writes. */
bool dirty_bitmap_records(struct dirty_bitmap *db);

/* ---- what the store tells while an instant is under way (disk-state.c) ---- */

struct bits_break {
    const struct bitmap *bits; /* to be compared only; NULL: all persistent ones of the disk */
    char *reason;
};
/* Note what disk_bitmaps_broken says from now on, or do not any more. */
void disk_watch_breaks(struct disk *d, bool on);
/* Why persistent bits that are no bitmap's yet would not survive; g_free(). NULL: they do. */
char *disk_break_of(struct disk *d, const struct bitmap *bits);
/* The same, under the disk's lock; it is the disk's. */
const char *disk_break_locked(const struct disk *d, const struct bitmap *bits);

/* ---- views (view.c; view-break.c; view-keep.c; view-read.c) ---- */

/* A block's entry in a view's map. All that is BLOCK_KEPT_ZERO or more is *kept*: it never changes
 * again, but for a TRIM of the view. */
enum {
    BLOCK_NEEDED = 0,    /* still on the disk */
    BLOCK_COPYING = 1,   /* a writer is keeping it; it goes to kept, or back to needed */
    BLOCK_CONTENDED = 2, /* the same, and somebody waits (futex on the entry) */
    BLOCK_DROPPED = 3,   /* the view's client trimmed it: not kept, reads as zeroes */
    BLOCK_KEPT_ZERO = 4, /* was allocated and zero */
    BLOCK_KEPT_HOLE = 5, /* was a hole */
    BLOCK_KEPT_SLOT = 8, /* was data: scratch slot (entry - BLOCK_KEPT_SLOT) */
};

static inline bool block_kept(uint32_t entry)
{
    return entry >= BLOCK_KEPT_ZERO;
}

enum view_state { VIEW_LIVE, VIEW_BROKEN, VIEW_RETIRING };

struct view {
    struct node node;
    struct disk *disk;
    struct scratch *scratch; /* the disk's, held; NULL until the view's instant is near */
    struct view *_Atomic older, *_Atomic newer;
    uint64_t size, blocks;
    futex_word *map;            /* an entry a block; memory only where touched (view-map.h) */
    struct bitmap *touched;     /* which parts of the map may hold anything, 4 MiB of disk a bit */
    pthread_mutex_t touch_lock; /* a leaf: while a part is touched for the first time */
    struct lasting *file;       /* where the map is; NULL: in memory of the process */
    bool claimed;           /* somebody will ask for it after the server's end; control thread */
    _Atomic uint32_t state; /* enum view_state */
    struct view_options options;
    _Atomic uint64_t kept; /* slots; changed by the functions below */
    atomic_uint uses;
    bool left;  /* it has left the chain; control thread */
    bool gone;  /* the same, also where its file stays; under disk->lock */
    bool empty; /* it is to leave the chain, and older views need nothing of it */
    int64_t instant_usec;
    pthread_mutex_t lock; /* reason */
    char reason[160];
    struct log_limit read_errors, keep_errors;
};

/* The view is about to keep so many slots more. False: the limit that it shares with others is
 * reached. */
static inline bool view_may_keep(struct view *v, uint64_t slots)
{
    return !v->options.quota || view_quota_take(v->options.quota, slots << v->disk->unit_shift);
}

/* After view_may_keep: it does not keep so many of them. */
static inline void view_keeps_less(struct view *v, uint64_t slots)
{
    if (v->options.quota)
        view_quota_give(v->options.quota, slots << v->disk->unit_shift);
}

/* The view has got a slot of a newer one. */
static inline void view_inherits(struct view *v)
{
    atomic_fetch_add(&v->kept, 1);
    if (v->options.quota)
        view_quota_inherit(v->options.quota, v->disk->unit);
}

/* The view has so many slots less. */
static inline void view_loses(struct view *v, uint64_t slots)
{
    atomic_fetch_sub(&v->kept, slots);
    view_keeps_less(v, slots);
}

static inline uint64_t io_size(const struct node_io *io)
{
    return io->view ? io->view->size : atomic_load(&io->disk->size);
}

/* The granularity of view.touched. */
#define VIEW_TOUCHED_UNIT (4u << 20)

/* Make a view that no chain holds yet; view_free undoes it. */
struct view *view_new(struct disk *d, const char *name, const struct view_options *options,
                      GError **err);
void view_free(struct view *v);
/* The same, of a view that has left the chain: when no reader can hold it any more. */
void view_free_later(struct view *v);

/* Before entries of [block, block + n) are read or changed, and after view.touched has said that
 * they never were (view-map.c). Any thread. */
void view_touch(struct view *v, uint64_t block, uint64_t n);

/* A block's entry. Any thread. */
static inline uint32_t view_entry(const struct view *v, uint64_t block)
{
    if (!bitmap_test(v->touched, block << v->disk->unit_shift))
        return BLOCK_NEEDED;
    return atomic_load(&v->map[block]);
}

/* Note why, tell control. Only the first time counts. */
void view_break(struct view *v, const char *reason);

/* A writer, inside the gate, is about to change [offset, offset + length): keep what views need.
 * 0, or -EIO where a view's on_error is CBW_BREAK_GUEST_WRITE and its data cannot be kept. */
int view_keep(struct disk *d, struct backend_handle *h, uint64_t offset, uint64_t length);

/* Read a view; `h` is one of the disk's handles. Whole blocks of the image. Any thread. */
int view_read(struct view *v, struct backend_handle *h, void *buf, uint32_t length,
              uint64_t offset);
/* The same without blocking, as node_read_now; of a handle with a descriptor. */
int view_read_now(struct view *v, struct backend_handle *h, void *buf, uint32_t length,
                  uint64_t offset);
/* Its base:allocation: the disk's at its instant, as node_extents. */
int view_extents(struct view *v, struct backend_handle *h, uint64_t length, uint64_t offset,
                 uint32_t flags, struct extents *extents);
/* Its client needs the range no more: what was kept for it goes to an older view that needs it, or
 * back to scratch. -EIO: the view is broken. */
int view_trim(struct view *v, uint64_t length, uint64_t offset);

#endif
