/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bits of persistent bitmaps while the store is open: `words`, which are in the memory folder, and
 * `file`, to which they are written (bits-sync.h) when something relies on that.
 */
#ifndef STATE_STORED_BITS_H
#define STATE_STORED_BITS_H

#include "server/state/store-private.h"

/* Why they are broken when their memory was lost (failure.h). */
extern const char stored_bits_lost_reason[];

/* state_ops.bits_new */
struct bitmap *stored_bits_new(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err);
/* state_ops.bits_attach: they get a new file, to which stored_bits_sync writes what is set. */
int stored_bits_attach(struct state_disk *d, struct bitmap *bits, GError **err);
/* Bits of a file that is there, for the row `b`. `crc`: it is what they should have. */
struct bitmap *stored_bits_open(struct state_disk *d, const struct catalogue_bitmap *b, bool crc,
                                GError **err);

/* Those of a bitmap, or NULL: it is not the store's. The caller gets a reference. */
struct stored_bits *stored_bits_of(struct state_disk *d, const struct bitmap *bits);
/* Those that have, or had, a file of that name, or NULL. */
struct stored_bits *stored_bits_named(struct state_disk *d, const char *uuid);
/* All that have a file which may be asked for later: with references. */
GPtrArray *stored_bits_with_files(struct state_disk *d);
void stored_bits_unref(struct stored_bits *sb);

/* Have all that was set before durable in their file. After a failure the file is never written again
 * (sb->stuck), and gets a successor soon; or it is their memory that has failed, and they are broken.
 * Waits for the folder. */
int stored_bits_sync(struct stored_bits *sb, GError **err);

/* A row names their file. */
void stored_bits_set_catalogued(struct stored_bits *sb);
/* No row will name the file any more: it is unlinked soon. `uuid` may be unknown here. */
void stored_bits_drop(struct state_disk *d, const char *uuid);
/* The same for bits that have taken the place of others at a start which is not committed yet: the
 * file stays. The next start removes it. */
void stored_bits_leave(struct state_disk *d, const struct bitmap *bits);
/* The disk is not served any more: close the files, unlink those that no row names. */
void stored_bits_close(struct state_disk *d);
/* The store is closed (s->closed): nobody asks any more for those whose bitmaps have gone. */
void stored_bits_forget(struct state_disk *d);

/* The store's memory goes with its last bits. */
void store_unref(struct store *s);
/* Have the jobs' thread do it; the store has none any more: nothing is done, and that is false. */
bool store_post(struct store *s, void (*run)(void *data), void *data);

#endif
