/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lasting note that a state folder has failed: a file in /var/tmp, which does not fail with the
 * folder and outlives the machine's run. It is made only after a failure, and is named by the folder's
 * UUID. It counts only if its owner is root or the present user. (memory.h has notes of the present
 * run.)
 */
#ifndef COMMON_STATE_NOTE_H
#define COMMON_STATE_NOTE_H

#include <glib.h>
#include <stdbool.h>

/* `path` is the folder's, for people. Waits for the disk; -1 and *err. */
int lasting_note_make(const char *uuid, const char *path, const char *reason, GError **err);
bool lasting_note_there(const char *uuid);
void lasting_note_remove(const char *uuid);

/* Another folder than /var/tmp; NULL: this. For tests, and for whoever recovers a copy of a state
 * folder. Without other threads. The string must live on. */
void lasting_note_set_folder(const char *folder);

#endif
