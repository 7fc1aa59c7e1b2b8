/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk's gate, and the time that it may be closed. */
#ifndef DISK_DRAIN_H
#define DISK_DRAIN_H

#include "server/disk/disk-private.h"

/* "disk %s: writes under way did not end ..."; returns -1. */
int fail_drain(const struct disk *d, GError **err);

/* Shut the disk's gate and wait until nobody is inside, at most drain_usec. -1: time ran out, and
 * the gate is open again. For callers that may wait; control thread, while no instant has the disk
 * (disk_in_instant). */
int disk_close_gate(struct disk *d, GError **err);

#endif
