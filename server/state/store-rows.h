/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows of the catalogue in memory. All under the store's catalogue_lock. */
#ifndef STATE_STORE_ROWS_H
#define STATE_STORE_ROWS_H

#include "server/state/store-private.h"

/* Read all rows into s->known and s->records, and the folder's. *damaged: some rows of disks and bitmaps
 * are. */
int rows_read(struct store *s, bool *damaged, GError **err);
void rows_free_disk(void *disk);
void rows_free_record(void *record);
/* A disk without bitmaps, which is added to s->known; it is not in the catalogue yet. */
struct state_disk *rows_add_disk(struct store *s, const char *name, uint64_t size);
/* Take one that was never attached out of s->known, and free it. */
void rows_drop_disk(struct state_disk *d);
struct state_disk *rows_find_disk(struct store *s, const char *name);
struct catalogue_bitmap *rows_find_bitmap(struct state_disk *d, const char *name);

/* A copy, with strings of its own. */
struct catalogue_bitmap row_copy(const struct catalogue_bitmap *b);
/* Free it and what it points to. */
void row_free(struct catalogue_bitmap *b);
/* Take over `to`'s content. */
void row_replace(struct catalogue_bitmap *b, struct catalogue_bitmap to);
bool row_equal(const struct catalogue_bitmap *a, const struct catalogue_bitmap *b);
void row_set_inconsistent(struct catalogue_bitmap *b, const char *reason);

#endif
