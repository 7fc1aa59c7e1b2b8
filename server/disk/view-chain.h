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
 */
#ifndef DISK_VIEW_CHAIN_H
#define DISK_VIEW_CHAIN_H

#include "server/disk/disk-private.h"

/* Under the closed gate. */
void unlink_view(struct view *v);

/* Who takes blocks out of a view holds this: one at a time, in the order in which they come. */
void lock_chain(struct disk *d);
void unlock_chain(struct disk *d);

/* Give `entry`, v's kept block, to the next older view that needs it. False: none does. Under
 * lock_chain. */
bool hand_over(struct view *v, uint64_t block, uint32_t entry);

/* Slots on their way back to scratch, gathered into runs. */
void surplus_add(GArray *surplus, uint32_t entry);

#endif
