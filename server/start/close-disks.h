/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of all disks, also where the plugin of one of them hangs. */
#ifndef START_CLOSE_DISKS_H
#define START_CLOSE_DISKS_H

#include "server/registry/registry.h"

/* Flush and close all disks of the server, the youngest first. A disk that hangs holds up the
 * others for a few seconds only. When not all are closed after `limit_ms`, what is left is logged,
 * and the process is ended at once. False: a disk was not closed, because a thread or a client
 * still uses it; this has been logged. Main thread, after control_free. */
bool close_disks(struct server *s, unsigned limit_ms);

#endif
