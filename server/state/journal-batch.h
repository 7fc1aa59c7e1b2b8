/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that writes the journal. */
#ifndef STATE_JOURNAL_BATCH_H
#define STATE_JOURNAL_BATCH_H

#include "server/state/journal-private.h"

/* For pthread_create. It ends when `stop` is set. */
void *journal_write_thread(void *journal);

/* The journal cannot be kept, and `reason` says why (taken over). Unless writers have to fail, the
 * store is told, once, without the lock; writers wait for that. Locked; any thread. */
void journal_fail(struct journal *j, char *reason);

#endif
