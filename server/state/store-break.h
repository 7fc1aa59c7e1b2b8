/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Failures of the folder: the bitmaps concerned become inconsistent, and everybody who has to know is
 * told. First the note outside of the folder, then the disk (which tells users), then the catalogue,
 * on the jobs' thread, again and again until it has worked.
 */
#ifndef STATE_STORE_BREAK_H
#define STATE_STORE_BREAK_H

#include "server/state/store-private.h"

/* These bits, or all of the disk (only NULL), are not to be trusted any more. Any
 * thread, with catalogue_lock or without. Does not wait. */
void store_break(struct state_disk *d, struct stored_bits *only, const char *reason);
/* Why these bits are broken, a copy, or NULL. They are if their memory was lost (failure.h), too. Any
 * thread, with catalogue_lock or without. */
char *store_broken(struct stored_bits *sb);
/* Put the rows of all bitmaps that are broken into the transaction that is open. catalogue_lock. */
int store_put_broken(struct store *s, GError **err);
/* It was committed. catalogue_lock. */
void store_settled(struct store *s);
/* Write them now, if there are any. For the jobs' thread. */
void store_settle(void *store);

/* Have the journal work again, where it has failed. -1 and *err: it does not. Waits for the folder. */
int store_revive_journal(struct store *s, GError **err);

/* journal_options.failed, journal_disk_options.sync_bits, and store.bits_lost. */
void store_journal_failed(void *store, const char *reason);
int store_sync_bits(void *disk);
void store_bits_lost(struct stored_bits *sb);

#endif
