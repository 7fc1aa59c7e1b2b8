/* SPDX-License-Identifier: BSD-3-Clause */
/* The folders in which the server keeps what is its own: --state and --scratch. */
#ifndef START_FOLDERS_H
#define START_FOLDERS_H

#include "server/disk/scratch.h"
#include "server/start/options.h"
#include "server/state/store.h"

struct folders {
    const struct options *o;
    char *scratch; /* absolute, because a daemon's folder is /; NULL: nobody has chosen */
    char *state;   /* absolute; NULL: bitmaps end with the server */
};

/* Before the process changes its current folder. */
void folders_init(struct folders *f, const struct options *o);
void folders_clear(struct folders *f);

/* Open the state folder, as the user that the server has become. *store: NULL without --state. -1 and
 * *err. */
int folders_open_store(const struct folders *f, struct store **store, GError **err);

/* A folder that somebody has chosen for the views' old data must be usable now, and not only when
 * the first backup begins. -1 and *err: it is not. */
int folders_check_scratch(const struct folders *f, struct scratch_pool *pool, GError **err);

#endif
