/* SPDX-License-Identifier: BSD-3-Clause */
/* The names of disks in the records of checkpoints and backup sessions. */
#ifndef CLIENT_STATE_RECORD_DISKS_H
#define CLIENT_STATE_RECORD_DISKS_H

#include "common/state/catalogue.h"

/* Disk `from` is called `to` now, in all records that can be read. One that names both, because the
 * folder has forgotten a disk `to`, names that one no more. In the catalogue's open transaction;
 * -1 and *err. */
int record_disks_rename(struct catalogue *c, const char *from, const char *to, GError **err);

#endif
