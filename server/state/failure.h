/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Failures of the folder that leave no way to note them in the folder itself.
 *
 * note_*: the note in /dev/shm (common/state/recovery.h). mapping_*: mapped files under which the
 * file may vanish (SIGBUS): the page is replaced by memory, so that the guest goes on, and the owner
 * is told.
 */
#ifndef STATE_FAILURE_H
#define STATE_FAILURE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct note;
/* Make, or take over, the note of a folder: it says that nothing failed. NULL: /dev/shm cannot be
 * used (logged); after a crash nothing will count as exact. */
struct note *note_new(const char *uuid);
void note_failure(struct note *n); /* async-signal-safe; NULL: nothing */
void note_free(struct note *n, bool keep); /* keep: the next server is to find it */

/* A mapping of a file. `lost` is called on a thread of its own, once, when a page of it was lost. The
 * process's SIGBUS handler is installed with the first one. A SIGBUS at any other address is what
 * it would have been without. */
struct mapping;
struct mapping *mapping_guard(void *begin, size_t length, void (*lost)(void *opaque), void *opaque);
void mapping_unguard(struct mapping *m);

#endif
