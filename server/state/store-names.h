/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which rows a disk gets, where names and images do not go together as they did.
 *
 * A disk that gets another image loses no good bitmap by that, since it may be a slip: the old rows
 * are set aside under another name, NAME-replaced, or NAME-replaced-replaced and so on if that is a
 * disk's. The disk has bitmaps of the same names, which are inconsistent and say so. When the old
 * image is back under the disk's name, so are the old rows, and those in their place go aside.
 * That is safe: nobody has written to an image whose good rows are aside, because a start in which
 * another disk has that image is refused.
 *
 * Users know a bitmap by its disk's name and its own: what they have copied since "b" began, they take
 * for that of any good "b". So of all bitmaps of a name, on the disk and aside, only one is good: where
 * one begins anew, the same transaction makes those that are aside inconsistent (names_aside).
 *
 * All but names_aside are called during a start, inside the catalogue's transaction; all with
 * catalogue_lock held.
 */
#ifndef STATE_STORE_NAMES_H
#define STATE_STORE_NAMES_H

#include "server/state/store-private.h"

/* The disk `d` has the name of one that is going to be attached with this image. Returns the disk
 * that is to be attached: `d`, or another one, which has got the name. *reason (g_free): why its
 * bitmaps are not those of the former image; else NULL. NULL and *err: the catalogue failed. */
struct state_disk *names_choose(struct state_disk *d, uint64_t size,
                                const struct image_identity *identity, char **reason, GError **err);
/* No disk has this name. *found: the one with good bitmaps that was set aside and has this image; it
 * has got the name. NULL: there is none. -1 and *err: the catalogue failed. */
int names_return(struct store *s, const char *name, const struct image_identity *identity,
                 struct state_disk **found, GError **err);
/* All are attached. -1 and *err: one of them has the image of a disk that is not attached, and whose
 * good bitmaps would not see what is written to it. */
int names_check(struct store *s, GError **err);
/* The disks whose rows were set aside from this one: struct state_disk, not owned. */
GPtrArray *names_aside(const struct state_disk *d);
/* The start is done: log which bitmaps are those of disks that are not served. */
void names_tell(struct store *s);

#endif
