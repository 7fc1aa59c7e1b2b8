/* SPDX-License-Identifier: BSD-3-Clause */
/* A new catalogue. */
#ifndef COMMON_STATE_CATALOGUE_MAKE_H
#define COMMON_STATE_CATALOGUE_MAKE_H

#include "common/state/storage.h"

/* Make catalogue.db, which is not there. It is made under another name, and gets its own when it is
 * durable. -1 and *err, also where the folder has bits of bitmaps already: then the catalogue was
 * lost. */
int catalogue_make(struct storage *s, GError **err);

#endif
