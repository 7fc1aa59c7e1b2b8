/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of ranges of regions: GArray of struct journal_entry. Pure. */
#ifndef STATE_JOURNAL_RANGES_H
#define STATE_JOURNAL_RANGES_H

#include "common/state/journal-format.h"

#include <glib.h>

GArray *ranges_new(void);
/* Sort by disk and region, and join what overlaps or touches. All are open, or all closed. */
void ranges_join(GArray *ranges);
/* At most `max` ranges are left: those of a disk with the least between them are joined, with what
 * is between them. They are as ranges_join leaves them. Each disk keeps one range at least. */
void ranges_squeeze(GArray *ranges, size_t max);

#endif
