/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A private copy of a state folder, in $TMPDIR. Commands that only look at a folder recover and check
 * the copy, so that nothing is written to the folder itself. The copy is sparse: zeroes take no room.
 * Files that no bitmap has are as long as in the original, but empty.
 */
#ifndef CLIENT_STATE_FOLDER_COPY_H
#define CLIENT_STATE_FOLDER_COPY_H

#include "common/state/catalogue.h"

typedef struct folder_copy {
    struct storage *storage; /* messages name the original */
    struct catalogue *catalogue;
    char *path, *notes; /* of the copy; of the copies of the notes */
} folder_copy;

/* `original` is locked. A recovery of the copy finds what it would find in the original, the notes of
 * its failures (common/state/note.h) included. One copy at a time, and no other threads. NULL and
 * *err. */
folder_copy *folder_copy_make(struct storage *original, GError **err);
/* Remove it. NULL is allowed. */
void folder_copy_free(folder_copy *c);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(folder_copy, folder_copy_free)

#endif
