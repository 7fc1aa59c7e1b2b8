/* SPDX-License-Identifier: BSD-3-Clause */
/* The names of disks in the records of checkpoints and backup sessions. */
#ifndef CLIENT_STATE_RECORD_DISKS_H
#define CLIENT_STATE_RECORD_DISKS_H

#include "common/state/catalogue.h"

/* All in the catalogue's open transaction, in all records that can be read; -1 and *err. A record that has
 * the number of a disk means that one, whatever its name is; else the name counts. */

/* The disk is called `to` from now on. A record that names both, because disk `to` is about to get
 * another name, names that one alone. */
int record_disks_rename(struct catalogue *c, const struct catalogue_disk *d, const char *to,
                        GError **err);
/* The disk is no more: another one that gets its name has no part in what the records tell. A record of
 * this disk alone is removed; a session that has not ended is aborted. */
int record_disks_forget(struct catalogue *c, const struct catalogue_disk *d, GError **err);
/* The same for disks of this name that have no row. */
int record_disks_forget_unknown(struct catalogue *c, const char *name, GError **err);

#endif
