/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk's scratch and who holds it. All views of a disk keep their blocks in one scratch, because
 * a slot may go from one view to another. It is there as long as somebody holds it: each view,
 * slots on their way back, and an instant that makes views.
 *
 * The first holder has a thread make it, because a file system may hang. An instant that waits for
 * that gives up after a while and lets go. The thread stays until the file system answers, and there
 * is never more than one for a disk. A thread closes the file, too.
 */
#ifndef DISK_DISK_SCRATCH_H
#define DISK_DISK_SCRATCH_H

#include "server/disk/disk-private.h"

void disk_scratch_init(struct scratch_holding *h);
/* At the disk's end, nobody waits for it to be made: wait for a thread that makes it all the same, a
 * second at most. False: it has not come back, and uses the disk and its pool. */
bool disk_scratch_end_making(struct scratch_holding *h);
/* After that: wait so long for threads that remove scratches whose files survive the process. False: one
 * has not come back, and uses the files of the disk's store. */
bool disk_scratch_end_leaving(struct scratch_holding *h, int64_t usec);
/* Nobody holds it, and no thread makes it. */
void disk_scratch_destroy(struct scratch_holding *h);

/* Hold the disk's scratch, until disk_scratch_release. True: it is there, or could not be made.
 * False: it is being made; `ready` is called once, when it is there or could not be made, by the
 * thread that makes it and with a lock held: it must be short and must not call anything here. One
 * at a time waits. `here`: the caller makes it, if nobody does. Control thread. */
bool disk_scratch_hold(struct disk *d, bool here, void (*ready)(void *opaque), void *opaque);
/* Do not wait: `ready` is not called any more when this returns. */
void disk_scratch_cancel(struct disk *d);
/* The scratch, held once more, for a caller who holds it and does not wait for it. NULL and *err: it
 * could not be made. Any thread. */
struct scratch *disk_scratch_share(struct disk *d, GError **err);
/* The last one that lets go frees it; all its slots are back then. Any thread. */
void disk_scratch_release(struct disk *d);
/* "disk %s: scratch: a file in %s could not be made within ..."; returns -1. */
int fail_scratch(const struct disk *d, GError **err);

/* Slots that nobody finds any more, but that readers may still hold. */
struct freed_slots;

/* By somebody who holds the scratch. */
struct freed_slots *freed_slots_new(struct disk *d);
/* `entry` is that of a block in a view's map; not every one has a slot. */
void freed_slots_add(struct freed_slots *f, uint32_t entry);
/* Give them back when all readers have left who are inside d->readers now. */
void freed_slots_give(struct freed_slots *f);

#endif
