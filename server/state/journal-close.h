/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that closes regions which were not used for a while (journal.c says why it may). */
#ifndef STATE_JOURNAL_CLOSE_H
#define STATE_JOURNAL_CLOSE_H

#include "server/state/journal-private.h"

/* For pthread_create. It ends when `stop` is set. */
void *journal_close_thread(void *journal);

#endif
