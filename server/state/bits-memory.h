/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words of stored bits: an address range that stays as long as they do. At first it is memory of
 * the process; then the file of the memory folder is mapped over it, so that whoever has the bitmap
 * does not notice.
 */
#ifndef STATE_BITS_MEMORY_H
#define STATE_BITS_MEMORY_H

#include "server/state/store-private.h"

/* Clean words, which take no memory yet. -1 and *err. */
int bits_memory_make(struct stored_bits *sb, GError **err);
/* Make the file bits/`uuid` of the memory folder, with all that is set, and map it. `bits` is the bitmap
 * over the words. Nobody else uses them meanwhile. Where that cannot be done (logged), they stay as they are: after the death of
 * the process these bits count as after a power loss. `use` but for the file. */
void bits_memory_move(struct stored_bits *sb, const struct bitmap *bits, const char *uuid,
                      struct mapping_use use);
/* The file's name goes; those who use the words do not notice. It need not be there. */
void bits_memory_unlink(struct store *s, const char *uuid);
/* Nobody uses them any more. */
void bits_memory_free(struct stored_bits *sb);

#endif
