/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is done first with a folder that was not left in order: the bits of all bitmaps, those of
 * disks that are not served this time too, are made a superset of what has changed, and are synced.
 * Then the catalogue says so in one transaction, and the journal may begin anew. When it is
 * interrupted, it is done again from the beginning.
 */
#ifndef COMMON_STATE_RECOVERY_H
#define COMMON_STATE_RECOVERY_H

#include "common/state/catalogue.h"

/* How the last user ended. */
enum recovery_kind {
    RECOVERY_NONE,       /* in order */
    RECOVERY_PROCESS,    /* the process died: the bits are exact, but for bitmaps that are said */
    RECOVERY_POWER_LOSS, /* the machine did, or the memory is gone, or the folder moved or failed */
};

struct recovery {
    enum recovery_kind kind;
    char *why; /* a sentence: "the machine was restarted" */
    /* Why all recording bitmaps of disks in use have become inconsistent; NULL: they have not. */
    char *lost;
    GHashTable
        *widened;       /* disk id (gint64) -> bytes that were dirtied beyond the bits (guint64), in
                            its bitmap that got most; disks that were in use */
    GHashTable *broken; /* disk id (gint64) -> why the first of its bitmaps that have become
                           inconsistent has (owned string) */
    GPtrArray *said;    /* sentences about what was found and done, for a log: owned strings */
};

/* The folder row, disks and bitmaps are updated in the catalogue (see there): afterwards no disk is
 * DISK_OPEN, and the folder is not `open`. Bitmaps whose files are missing or damaged become
 * inconsistent, and so does every recording bitmap when the journal is damaged. Where the folder was
 * left in order, nothing is written. The memory folder is only read. NULL and *err: the folder cannot be used (I/O error); nothing
 * is lost by that. */
struct recovery *state_recover(struct storage *s, struct catalogue *c, GError **err);
/* Bytes by which the bitmaps of a disk were widened. False: the disk was not in use. */
bool recovery_widened(const struct recovery *r, int64_t disk, uint64_t *bytes);
/* Why bitmaps of the disk, all or some, have become inconsistent; the recovery's. NULL: none has. */
const char *recovery_broken(const struct recovery *r, int64_t disk);
void recovery_free(struct recovery *r);

#endif
