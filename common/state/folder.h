/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A state folder: who may use it, and what is in it. nbdfleece-state(5) describes the files:
 *
 *   lock          locked (flock(2)) by the server or tool that uses the folder; holds its pid
 *   catalogue.db  disks, bitmaps (catalogue.h)
 *   bits/UUID     the bits of a bitmap (bit-file.h)
 *   intent        the journal of regions that are being written (journal-format.h)
 *   live          when each disk was changed last (live-file.h)
 *
 * Scratch of views may be in it, too: no part of what survives a power loss.
 */
#ifndef COMMON_STATE_FOLDER_H
#define COMMON_STATE_FOLDER_H

#include "common/state/storage.h"

#define STATE_CATALOGUE "catalogue.db"
#define STATE_INTENT    "intent"
#define STATE_LIVE      "live"
#define STATE_BITS      "bits"
#define STATE_VIEWS     "views" /* of the memory folder alone */
/* Of names of scratch files, which are in the folder where nobody has chosen another one. */
#define STATE_SCRATCH_PREFIX ".nbdfleece-scratch-"

/* Check and lock the folder at `path`. create: it is made, mode 0700, if it is not there (its parent
 * must be). NULL and *err: it is no folder; others than its owner and root can write to it, or its
 * owner is neither us nor root; somebody else has it locked (the message says who). The lock lives
 * as long as the storage. */
struct storage *state_folder_open(const char *path, bool create, GError **err);

/* The first 8 bytes of a folder's UUID as a number: what the journal has of it. */
uint64_t state_folder_number(const char *uuid);

/* Of this machine: /proc/sys/kernel/random/boot_id and /etc/machine-id; "" where there is none. */
char *state_boot_id(void);    /* g_free */
char *state_machine_id(void); /* g_free */

#endif
