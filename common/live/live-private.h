/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an open live image is, for the files of common/live.
 *
 * Design
 *
 * Space is only ever taken from a reserve: clusters behind all that the file has, which are, durably,
 * inside of the file, counted once, and all zeroes (live-reserve.h). So a pointer to one of them may
 * become durable at any time, in any order with all else: after a crash the guest reads there what it
 * had before, zeroes. Nothing has to be written in front of anything, no image is ever marked dirty, and
 * a flush is one fdatasync. The exceptions are entries whose old content was not zeroes (there is
 * data below, it was compressed, the cluster was shared, or preallocated with any content): the whole new cluster
 * (or subcluster) is written first, and the entry's slice is *flagged*: it goes to the file only
 * after a sync of the data (live-commit.c).
 *
 * A guest cluster that has a host cluster of its own (entry COPIED, plain data) keeps it until the
 * image is closed. Zeroing and trimming make holes in the file, or zeroes, at that place; the entry
 * stays. So such an entry never changes, and who has once seen it may read and write at that place
 * without a lock, a pin, or a second look: there is no reuse for which a reader or a writer could come too late. No
 * host cluster is used twice: what is given up (compressed clusters that are overwritten, clusters shared
 * before) is counted down and punched, and stays a hole of the file. The file's length is bounded by
 * that of the disk, since each guest cluster takes one place at most; the room it takes on the file
 * system is what the guest uses.
 *
 * Who reads what may be given up (compressed, or data that is not COPIED, of the top layer) looks at the entry
 * once more when it has read, and begins anew if that has changed: the punch comes after the entry.
 *
 * Layers below the top are read only and do not change.
 *
 * Invariants, at every moment of the file on the medium:
 * - each pointer (L1, L2, reference table) leads inside of the file, to a cluster that is counted;
 * - no cluster is referred to twice but by what was so when the image was opened;
 * - COPIED is set only where the count is 1;
 * - a guest sector reads as it was at the last flush, or as something written to it since.
 *
 * Lock order: range lock of guest clusters (live-ranges), commit lock (live-commit.c), the reserve's
 * lock (live-reserve.c), the slices' lock (live-slots.h), the header's lock (live-header.c). The cache of decompressed clusters
 * (live-compressed.c) is a leaf.
 */
#ifndef COMMON_LIVE_LIVE_PRIVATE_H
#define COMMON_LIVE_LIVE_PRIVATE_H

#include "common/live/live-file.h"
#include "common/live/live.h"
#include "common/qcow2/q2-entry.h"
#include "common/qcow2/q2-image-private.h"

#include <stdatomic.h>

struct live_slices;     /* live-slots.h: the cache of L2 tables */
struct live_commit;     /* live-commit.c: writing them back */
struct live_reserve;    /* live-reserve.c: space, and counts */
struct live_head;       /* live-header.c: the first sector, and its lock */
struct live_compressed; /* live-compressed.c: what was decompressed last, and contexts */
struct live_ranges;     /* guest clusters whose entries are being changed */
struct live_worker;     /* live-worker.c: the thread */

/* One file of the chain (and its data file). */
struct live_layer {
    struct live_image *image;
    unsigned depth; /* 0: the top */
    struct q2_image *opened;
    bool raw; /* `file` is the disk; nothing of what is below `size` is set */
    bool writable;
    struct live_file file, data; /* data.fd -1: clusters lie in `file` */
    _Atomic uint64_t size;       /* of the disk: bytes */

    struct q2_geometry geometry;
    uint64_t cluster; /* bytes */
    /* L1, in host order: as many entries as the disk needs. Written only by who makes tables
     * (live-slices-change.c) and by a resize. */
    _Atomic(_Atomic uint64_t *) l1;
    /* At most as many as `l1` has: who needs both takes this first. */
    _Atomic uint64_t l1_entries;
    uint64_t l1_room; /* entries that there is memory for */
    uint64_t l1_offset;
    struct live_old_l1 *old_l1; /* tables that readers may still be at: live-slices-change.c */
    struct live_slices *slices;
    struct live_compressed *compressed; /* NULL: a raw layer, which has nothing compressed */

    struct live_layer *backing; /* NULL: none */
    atomic_uint told; /* enum live_told: what has been said of it, once and not for each read */
};

enum live_told { LIVE_TOLD_INVALID = 1, LIVE_TOLD_COMPRESSED = 2, LIVE_TOLD_UNREADABLE = 4 };

/* Whether it is to be said now, for the first time. */
static inline bool live_first_told(struct live_layer *l, enum live_told what)
{
    return !(atomic_fetch_or(&l->told, what) & what);
}

struct live_image {
    struct q2_image *chain;
    struct live_options options;
    struct live_layer *top;
    struct live_layer *layers; /* all, the top first */
    unsigned n_layers;
    /* Of a writable image, else NULL. */
    struct live_commit *commit;
    struct live_reserve *reserve;
    struct live_ranges *ranges;
    struct live_worker *worker; /* NULL: not started */
    struct live_head *head;     /* NULL: not writable */
    struct q2_header header;    /* as it is in the file: live-header.c */
    bool begun;                 /* all that a writable one needs is there */
    /* What files call that others, above them, do. NULL: nobody does it. */
    int (*make_room)(struct live_image *image); /* live_commit, for slices that need a place */
    void (*wake)(struct live_image *image);     /* live_worker_wake, for a reserve that is low */
    /* The image is damaged, or writing its tables failed half-way: nothing is written any more (negative errno),
     * but what is there is read. 0: all is well. */
    atomic_int broken;
    atomic_bool damaged; /* live_damaged has been called */
};

/* An entry of the L1 table. Any thread, also while it grows. */
static inline uint64_t live_l1_word(const struct live_layer *l, uint64_t index)
{
    _Atomic uint64_t *words = atomic_load_explicit(&l->l1, memory_order_acquire);

    return atomic_load_explicit(&words[index], memory_order_acquire);
}

/* The file that clusters of data are in. */
static inline struct live_file *live_layer_data(struct live_layer *l)
{
    return l->data.fd >= 0 ? &l->data : &l->file;
}

/* ---- live-damage.c ---- */

/* Tell whoever opened the image: a printf message, which begins with the file's name. Any thread. */
void live_tell(struct live_image *image, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The image has been found to be damaged, as the message says, which begins with the file's name: it is
 * marked corrupt in the file, if that is of version 3 and open for writing, and is written no more. The first one
 * is told. Returns -EIO. Any thread; no lock of this page may be held. */
int live_damaged(struct live_image *image, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
