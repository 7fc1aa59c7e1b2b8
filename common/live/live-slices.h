/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The L2 tables of one layer, in memory: slices of 4 KiB (a cluster, if that is smaller), looked up
 * without a lock.
 *
 * A set-associative cache of a fixed size: memory is bounded by construction. A slice's memory is
 * never freed before the image is closed, but used again for another slice: a reader takes the slot's sequence number, the
 * words, and the number once more (a seqlock). Entries are kept as they are in the file (big-endian),
 * so that writing back is a copy; each is one or two atomic words.
 *
 * A slice that has changed (dirty) is not evicted before it has been written back. Who needs its
 * place writes it back himself, or has a commit made (image->make_room) where it is flagged.
 *
 * Extended entries are two words: a reader takes the first, the second, and the first again. A writer stores
 * the second first where the entry was compressed, else the first first. A host cluster, once
 * there, never changes.
 */
#ifndef COMMON_LIVE_LIVE_SLICES_H
#define COMMON_LIVE_LIVE_SLICES_H

#include "common/live/live-private.h"

/* `memory`: bytes of all slices, but a few slices there are in any case. 0 or a negative errno. */
int live_slices_init(struct live_layer *l, size_t memory);
void live_slices_clear(struct live_layer *l); /* what is dirty is lost */

/* What a range of a layer is. */
struct live_run {
    enum q2_kind kind; /* Q2_INVALID: breaks a rule; `why` */
    uint64_t length;   /* bytes of the disk */
    uint64_t
        host; /* Q2_DATA: of the first byte. Q2_COMPRESSED: where it begins (any byte). Q2_ZERO,
                          and Q2_UNALLOCATED of extended L2: of the first byte, if it has a place; else 0 */
    uint32_t bytes;        /* Q2_COMPRESSED: at most so many hold it */
    bool own;              /* Q2_DATA, or a place: COPIED, so it may be written there */
    uint64_t word, bitmap; /* the first entry as it was read, in host order: to compare */
    const char *why;
};

/*
 * The run at `offset`, at most `length` bytes (inside of the layer's size); neighbours of one kind
 * (with hosts that follow, and the same `own`) come as one as far as their slice goes; where there is no table at all, farther. A
 * compressed run is one cluster (its rest from `offset` on). A raw layer is all Q2_DATA.
 * Entries are checked when their slice is loaded and when they are used: what lies on metadata or
 * outside of the file, is not aligned, or has bits that contradict each other, is Q2_INVALID.
 * True; false: the slice is not in memory (live_slices_load). Never blocks.
 */
bool live_slices_run(struct live_layer *l, uint64_t offset, uint64_t length, struct live_run *run);

/* The same, having the slice loaded: 0 or a negative errno. */
int live_slices_run_wait(struct live_layer *l, uint64_t offset, uint64_t length,
                         struct live_run *run);

/* An entry of an L2 table, in host order; `bitmap` is 0 but for extended L2. */
struct live_entry {
    uint64_t word, bitmap;
};

/*
 * Change `n` entries, from that of guest cluster number `cluster` on, which lie in one slice. The L2
 * table is made, out of the reserve, if there is none. `flagged`: the data that the entries lead to
 * has been written, and has to be durable before they are. The caller has the clusters' range (live-ranges), and is the
 * only one who changes these entries. Readers see the new ones from here on. 0 or a negative errno:
 * nothing has changed.
 */
int live_slices_change(struct live_layer *l, uint64_t cluster, unsigned n,
                       const struct live_entry *entries, bool flagged);
/* How many entries, from that of `cluster` on, lie in its slice. */
unsigned live_slices_room(const struct live_layer *l, uint64_t cluster);

/* The layer has a longer L1 table, which is durable in the file, at another place, and is the layer's from here on:
 * its first entries are those of the old one. `l1` stays the caller's. Readers and commits may be under way,
 * changes not. 0 or -ENOMEM. */
int live_slices_set_l1(struct live_layer *l, const uint64_t *l1, uint64_t entries, uint64_t offset);
/* Free it, at the end. */
void live_slices_free_l1(struct live_layer *l);

/* ---- for live-commit.c: one call at a time ---- */

/*
 * Write the slices that are dirty and not flagged, and then what is dirty of L1: to the page cache. Those that others
 * are writing are waited for. What is changed meanwhile may be written or not. 0 or a negative errno: what
 * has not been written is dirty as before.
 */
int live_slices_write(struct live_layer *l);

/*
 * Take copies of all slices that are flagged. They are clean from then on, and stay in memory until
 * live_slices_end_flagged has written the copies. It frees them. `error`, a negative errno: they are not
 * to be written. If that is so, or one cannot be written, it and all that follow are dirty and flagged once more.
 * Both: 0 or a negative errno (nothing is taken).
 */
struct live_copy;
int live_slices_take_flagged(struct live_layer *l, struct live_copy **copies);
int live_slices_end_flagged(struct live_layer *l, struct live_copy *copies, int error);

/* Is any slice dirty, or flagged? A look, without a lock. */
bool live_slices_dirty(const struct live_layer *l);
bool live_slices_flagged(const struct live_layer *l);

#endif
