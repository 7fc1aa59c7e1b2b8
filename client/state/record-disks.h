/* SPDX-License-Identifier: BSD-3-Clause */
/* The names of disks in the records of checkpoints and backup sessions. */
#ifndef CLIENT_STATE_RECORD_DISKS_H
#define CLIENT_STATE_RECORD_DISKS_H

#include "common/state/catalogue.h"

/* All in the catalogue's open transaction, in all records that can be read; -1 and *err. */

/* Disk `from` is called `to` now. One that names both, because disk `to` is about to get
 * another name, names that one alone. */
int record_disks_rename(struct catalogue *c, const char *from, const char *to, GError **err);
/* There is no disk of this name any more: another one that gets the name has no part in what the records
 * tell. A record of this disk alone is removed; a session that has not ended is aborted. */
int record_disks_forget(struct catalogue *c, const char *disk, GError **err);

#endif
