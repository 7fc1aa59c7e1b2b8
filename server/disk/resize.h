/* SPDX-License-Identifier: BSD-3-Clause */
/* The size of a disk. */
#ifndef DISK_RESIZE_H
#define DISK_RESIZE_H

#include "server/disk/instant.h"

/* Change the size, bytes: the only action of its instant. Growth is dirty in every recording bitmap.
 * Refused (with QEMU's words where it has some): read-only, a backend that cannot, shrinking while a
 * node_io or a view is there. Control thread. */
int instant_resize(struct instant *i, struct disk *d, uint64_t size, GError **err);

/* The same as an instant of its own, which is waited for: for tests. */
int disk_resize(struct disk *d, uint64_t size, GError **err);

#endif
