/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chain of views of a disk, and how a view leaves it.
 *
 *     oldest  <->  ...  <->  newest  ->  the disk itself
 *
 * A view finds a block in its own map, else in that of the next newer view that kept it, else on
 * the disk. Writers keep a block for the newest view that needs it, so each old block is kept once.
 *
 * A broken view stays in the chain until it is deleted, because older views may need what it kept.
 *
 * To delete view V (instant_view_delete):
 *
 *  1. V is marked RETIRING, and nothing more is kept into it. Writers treat V like a broken view
 *     (view-keep.c) and would need no closed gate for that; it is closed so that a write that hangs
 *     makes the deletion fail here, with V as it was.
 *  2. While guests go on, each block is taken out of V, as by a TRIM of all of it: what was kept is
 *     offered to the next older view that needs it. The entry is copied, the slot changes its owner,
 *     no data moves. Slots that nobody needs go back to scratch.
 *     If the instant is given up meanwhile, V stays, broken: older views find the rest in it.
 *  3. At an instant, under the closed gate, V leaves the chain: no writer may hold a pointer to it.
 *     If a write hangs just then, V stays where it is, broken and empty, and can be deleted again.
 *  4. V is freed when all readers have left who may have met it (grace.h).
 */
#ifndef DISK_VIEW_CHAIN_H
#define DISK_VIEW_CHAIN_H

#include "server/disk/disk-private.h"

/* Under the closed gate, d->lock held. */
void view_link(struct view *v, int64_t instant_usec);
/* Under the closed gate, d->lock not held. */
void view_unlink(struct view *v);

/* The entry that has v's data of `block`: its own, or that of the next newer view that kept it;
 * BLOCK_NEEDED: the data is on the disk (at the time of the call). Inside the grace `readers`. */
uint32_t view_resolve(const struct view *v, uint64_t block);

/* Wait until an entry is no longer copying. */
void view_wait_copied(struct view *v, uint64_t block);
/* The same, for one who must not hang with the thread that copies. False: *stop is set (NULL:
 * never). */
bool view_wait_copied_or(struct view *v, uint64_t block, const atomic_bool *stop);

/* Who takes blocks out of a view holds this: one at a time, in the order in which they come. False:
 * *stop was set before (NULL: never). */
bool lock_chain(struct disk *d, const atomic_bool *stop);
void unlock_chain(struct disk *d);

enum heir { HEIR_FOUND, HEIR_NONE, HEIR_UNKNOWN };

/* Give `entry`, v's kept block, to the next older view that needs it. HEIR_NONE: none does.
 * HEIR_UNKNOWN: *stop was set before that was known. Under lock_chain, inside the grace. */
enum heir hand_over(struct view *v, uint64_t block, uint32_t entry, const atomic_bool *stop);

/* Take all blocks out of a view that is retiring (view-trim.c). Any thread; may take long. It ends
 * soon once *stop is set, also where a thread that copies hangs: the view then has a part of its
 * blocks. */
void view_hand_over(struct view *v, const atomic_bool *stop);
/* At the disk's end, where all its views go and nobody is inside: its slots go with the scratch. */
void view_forget(struct view *v);

#endif
