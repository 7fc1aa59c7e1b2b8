/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bits in memory, and their copy in the state folder's file, which is never mapped.
 *
 * Bits are only ever set. So a page has changed exactly if it has more bits than when it was last
 * written.
 */
#ifndef STATE_BITS_SYNC_H
#define STATE_BITS_SYNC_H

#include "server/state/store-private.h"

/* Take the bits of a file into words that are clean, and remember that the file has them. */
int bits_load(struct stored_bits *sb, struct bit_file *f, GError **err);
/* Write all bits that were set before to the file, and sync it. After a failure the file is never
 * written again: `stuck`. *lost (may be NULL): the memory is not what it was, and the bits are lost.
 * Waits for the folder. Any thread. */
int bits_sync(struct stored_bits *sb, bool *lost, GError **err);
/* A new file with all bits that were set before, durable with its name, for bits whose file is stuck.
 * NULL and *err. Waits for the folder; one thread at a time. */
struct bit_file *bits_copy(struct stored_bits *sb, GError **err);
/* That file takes the place of the one that was stuck, which is returned. The catalogue names it. */
struct bit_file *bits_put_copy(struct stored_bits *sb, struct bit_file *f);
/* bit_file_crc of the bits in memory. Nobody sets any meanwhile. */
int bits_sum(struct stored_bits *sb, uint32_t *crc, GError **err);

#endif
