/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file `intent` as its writer has it: which half is in use, how far it is filled. All functions
 * do I/O and may take long; one thread at a time. They return 0 or a negative errno; after a
 * failure nothing is written to the file any more, but a new one is made: an fsync that failed
 * proves nothing when it is called again.
 */
#ifndef STATE_JOURNAL_FILE_H
#define STATE_JOURNAL_FILE_H

#include "common/state/journal-format.h"
#include "common/state/storage.h"

struct journal_file;

/* Make a new file, with a snapshot of `open` (as ranges_join leaves it; it may be squeezed). When
 * it is durable, it takes the place of `intent`. *doing: what failed. */
int journal_file_make(struct storage *s, uint64_t folder, GArray *open, struct journal_file **f,
                      const char **doing);
void journal_file_close(struct journal_file *f); /* NULL: nothing */

/* Is there room for n entries in the half that is in use? No I/O. */
bool journal_file_fits(const struct journal_file *f, size_t n);
/* Append a batch, and sync. There is room for it. */
int journal_file_append(struct journal_file *f, const struct journal_entry *entries, size_t n);
/* Go on in the other half, with a snapshot of `open` (as above). */
int journal_file_turn(struct journal_file *f, GArray *open);

#endif
