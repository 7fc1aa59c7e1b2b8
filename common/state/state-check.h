/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checking and mending a state folder that nobody serves.
 *
 * Checking is mending: the folder is recovered as by the next start of a server, and what is wrong in
 * it is put right. A caller that only wants to know what is wrong gives a copy of the folder
 * (client/state/folder-copy.h).
 */
#ifndef COMMON_STATE_STATE_CHECK_H
#define COMMON_STATE_STATE_CHECK_H

#include "common/state/recovery.h"

/* Something that is wrong. */
struct state_finding {
    char *what;   /* on which object, and what: "bits/UUID: no bitmap has it" */
    char *remedy; /* what was done, or was tried: "the file is removed"; NULL: nothing can be */
    bool mended;
    char *why_not; /* the remedy failed; may be NULL */
};

void state_finding_free(struct state_finding *f);

/* Look at all files of the folder, whose catalogue is `c`. `findings` gets struct state_finding,
 * which it owns; `notes` gets sentences (owned) about what is not wrong but should be known. Bitmaps
 * whose bits cannot be trusted are inconsistent afterwards. The result is the recovery that was done
 * first. NULL and *err: the folder cannot be recovered, and nothing was changed by that. */
struct recovery *state_check(struct storage *s, struct catalogue *c, GPtrArray *findings,
                             GPtrArray *notes, GError **err);

#endif
