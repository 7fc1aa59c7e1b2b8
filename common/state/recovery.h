/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is done first with a folder that was not left in order: the bits of all bitmaps, those of
 * disks that are not served this time too, are made a superset of what has changed, and are synced.
 * Then the catalogue says so in one transaction, and the journal may begin anew. When it is
 * interrupted, it is done again from the beginning.
 */
#ifndef COMMON_STATE_RECOVERY_H
#define COMMON_STATE_RECOVERY_H

#include "common/state/identity.h"

/* How the last user ended. */
enum recovery_kind {
    RECOVERY_NONE,       /* in order */
    RECOVERY_PROCESS,    /* the process died: the bits are exact */
    RECOVERY_POWER_LOSS, /* the machine did, or the folder was mounted anew or moved, or it failed */
};

struct recovery {
    enum recovery_kind kind;
    char *why;            /* a sentence: "the machine was restarted (boot id ...)" */
    GHashTable *widened;  /* disk id (gint64) -> bytes that were dirtied beyond the bits (guint64), in
                             its bitmap that got most */
    struct identity_past *past; /* by disk: recovery_past() */
};

/* The folder row, disks and bitmaps are updated in the catalogue (see there). Bitmaps whose files
 * are missing or damaged become inconsistent, and so does every recording bitmap when the journal is
 * damaged. NULL and *err: the folder cannot be used (I/O error); nothing is lost by that. */
struct recovery *state_recover(struct storage *s, struct catalogue *c, GError **err);
/* For identity_judge. */
struct identity_past recovery_past(const struct recovery *r, int64_t disk);
void recovery_free(struct recovery *r);

/* The note that a folder failed, in a place that does not fail with it: a file in /dev/shm, named by
 * the folder's UUID, which ends with the machine's run. noted: mapped memory, whose first word is
 * not 0 when the folder has failed. "Exact" needs that the note is there and says that nothing
 * failed. */
bool state_note_healthy(const char *uuid);

#endif
