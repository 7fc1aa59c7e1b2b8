/* SPDX-License-Identifier: BSD-3-Clause */
/* What the store has to do with views that survive the process (server/disk/lasting.h). */
#ifndef STATE_STORE_VIEWS_H
#define STATE_STORE_VIEWS_H

#include "server/state/store-private.h"

/* The memory folder was made: set s->views. The folder's row still names the run that has left the
 * views that are there. */
void views_begin(struct store *s);
/* Why views of the last server do not fit the image of a disk, which is not in use yet: a sentence
 * (g_free). NULL: they do. `reason`: why its bitmaps do not, or NULL. */
char *views_judge(const struct state_disk *d, const char *reason,
                  const struct image_identity *identity, uint64_t size);

#endif
