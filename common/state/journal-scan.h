/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the journal of a folder after a crash: see journal-format.h. */
#ifndef COMMON_STATE_JOURNAL_SCAN_H
#define COMMON_STATE_JOURNAL_SCAN_H

#include "common/state/journal-format.h"
#include "common/state/storage.h"

/* Open regions: GArray of struct journal_entry (all open), without overlaps, by disk and region.
 * An absent or empty file has none. A file of zeroes is damaged: a journal has a snapshot before it
 * gets its name. `folder`: see journal_sector. NULL and *err: the journal cannot
 * be read, is damaged, or is another folder's: any region of any disk may be open. */
GArray *journal_scan(struct storage *s, uint64_t folder, GError **err);

/* The same of a file's bytes: pure, for fuzzing. NULL: *why is a static string. */
GArray *journal_scan_bytes(const uint8_t *bytes, size_t length, uint64_t folder, const char **why);

#endif
