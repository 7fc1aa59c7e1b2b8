/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk's scratch and who holds it. All views of a disk keep their blocks in one scratch, because
 * a slot may go from one view to another. It is there as long as somebody holds it: each view, and
 * slots on their way back.
 */
#ifndef DISK_DISK_SCRATCH_H
#define DISK_DISK_SCRATCH_H

#include "server/disk/disk-private.h"

/* Hold the disk's scratch, which is made if there is none. NULL and *err: it cannot be made. Control
 * thread. */
struct scratch *disk_scratch_hold(struct disk *d, GError **err);
/* The last one that lets go frees it; all its slots are back then. Any thread. */
void disk_scratch_release(struct disk *d);

/* Slots that nobody finds any more, but that readers may still hold. */
struct freed_slots;

/* By somebody who holds the scratch. */
struct freed_slots *freed_slots_new(struct disk *d);
/* `entry` is that of a block in a view's map; not every one has a slot. */
void freed_slots_add(struct freed_slots *f, uint32_t entry);
/* Give them back when all readers have left who are inside d->readers now. */
void freed_slots_give(struct freed_slots *f);

#endif
