/* SPDX-License-Identifier: BSD-3-Clause */
/* A state folder that no server uses, while a command of fleecectl looks at it or changes it. */
#ifndef CLIENT_STATE_OFFLINE_H
#define CLIENT_STATE_OFFLINE_H

#include "client/state/folder-copy.h"

typedef struct offline {
    struct storage *storage;
    struct catalogue *catalogue;
    /* The rest is offline.c's. */
    struct storage *folder; /* the folder itself, locked */
    folder_copy *copy;      /* NULL: the other members are the folder's own */
} offline;

/* Lock the folder at `path`, which must be one already. write: what is changed in `storage` and
 * `catalogue` is changed in the folder; else they are a copy, which is thrown away. NULL and *err. */
offline *offline_open(const char *path, bool write, GError **err);
void offline_close(offline *o); /* NULL is allowed */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(offline, offline_close)

#endif
