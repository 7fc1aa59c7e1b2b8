/* SPDX-License-Identifier: BSD-3-Clause */
/* What a transaction says of one bitmap (state.h), with strings and references of its own. */
#ifndef STATE_STORE_CHANGE_H
#define STATE_STORE_CHANGE_H

#include "server/state/store-private.h"

struct change {
    struct state_change c;
    struct stored_bits *sb; /* NULL: it is removed, transient, or inconsistent since it was found */
};

/* Copies, as struct change. g_array_unref. */
GArray *changes_new(const struct state_change *changes, unsigned n);

/* Will the catalogue rely on a file that it does not know yet? `sb` may be NULL. */
bool change_is_new(struct stored_bits *sb);
/* May this new bitmap be a good one? -1 and *err: it may not, its bits are broken or have no file. */
int change_check_new(const struct change *c, GError **err);
/* The file of an inconsistent bitmap may be of no use: only its row counts. */
bool change_has_no_use(const struct change *c);
/* Does it end a resize of the disk, or tell its new size? With catalogue_lock held. */
bool change_has_size(const struct change *c);

#endif
