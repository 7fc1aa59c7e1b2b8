/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notes that a state folder has failed, in places that do not fail with it.
 *
 * One is a file in /dev/shm. It is there while a server uses the folder, says whether something has
 * failed that the folder itself could not be told, and ends with the machine's run. The other is a
 * file in /var/tmp, which outlives the machine's run; it is made only after a failure. Both are named
 * by the folder's UUID. A note counts only if its owner is root or the present user.
 */
#ifndef COMMON_STATE_NOTE_H
#define COMMON_STATE_NOTE_H

#include <glib.h>
#include <stdbool.h>

struct note;

/* Make, or take over, the note of a folder: it says that nothing failed. NULL: /dev/shm cannot be
 * used (logged); after a crash nothing will count as exact. */
struct note *note_new(const char *uuid);
/* Something failed. Async-signal-safe, memory only. NULL: nothing. */
void note_failure(struct note *n);
/* The folder itself knows of all failures now. NULL: nothing. */
void note_settled(struct note *n);
/* keep: the next server is to find it. */
void note_free(struct note *n, bool keep);

/* "Exact" needs that the note is there and says that nothing failed. */
bool state_note_healthy(const char *uuid);
/* The note is there and says that something failed, or there is a lasting one. */
bool state_note_failed(const char *uuid);

/* The note that outlives the machine's run. `path` is the folder's, for people. Waits for the disk;
 * -1 and *err. */
int lasting_note_make(const char *uuid, const char *path, const char *reason, GError **err);
void lasting_note_remove(const char *uuid);

/* Other folders than /dev/shm and /var/tmp; NULL: these. For tests, and for whoever recovers a copy of
 * a folder. Without other threads. The strings must live on. */
void note_set_folders(const char *shm, const char *lasting);

#endif
