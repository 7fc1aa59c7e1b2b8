/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views that an earlier server has left, when it died or ended in order: they are had back as they were,
 * or not at all.
 *
 * What survives is in files of the memory folder (lasting.h): each view's map, and what was on its way
 * into the scratch file. It is whole, because a block's entry says `kept` only when its data is there,
 * and before its first byte on the disk changes (view-keep.c). What the process was in the middle of:
 *
 *  - a block that was being copied: nobody has changed it; it is needed.
 *  - a block on its way from a view to an older one (hand_over): both have it, or the older one alone.
 *    The newer one needs it no more: it was trimmed there.
 *  - a slot on its way back to scratch: no map has it; it is free.
 *  - a view that was not yet in the chain, or no longer: it is not had back.
 *  - a view that was being deleted: it is in the chain, broken, with what it had not yet handed over.
 *
 * That holds if nobody else has written to the image (disk_state.stale), and for views that have kept
 * all of their blocks where they survive. Older views find blocks in newer ones: if a newer one is not
 * to be had, they are not, either.
 */
#ifndef DISK_VIEW_RESUME_H
#define DISK_VIEW_RESUME_H

#include "server/disk/disk.h"

/* Put them back into the disk's chain and list. Why some are not to be had is logged; nothing of them is
 * removed (view-left.h). After disk_restore, before anybody opens the disk. Waits for the file system of
 * scratch. Control thread. */
void disk_resume_views(struct disk *d);

/* Why views of the last server are not to be had; the disk's. NULL: all are, or there were none. */
const char *disk_lost_views(const struct disk *d);

#endif
