/* SPDX-License-Identifier: BSD-3-Clause */
/* What earlier servers have left of views and scratch, and nobody has back. */
#ifndef DISK_VIEW_LEFT_H
#define DISK_VIEW_LEFT_H

#include "server/disk/disk.h"

/* Remove it: files in memory but for those that these disks use (GPtrArray of struct disk: all that are
 * served, each after disk_resume_views), and scratch files, wherever they are. When the store has
 * been told that this is the server now: a start that comes to nothing before leaves all of it for the
 * next one. Failures are logged. Waits for the file systems of scratch. Control thread. */
void disks_remove_left(const GPtrArray *disks);

#endif
