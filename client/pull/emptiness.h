/* SPDX-License-Identifier: BSD-3-Clause */
/* Does a block device or an NBD export hold data, as far as a look at some places shows? One
 * thread. */
#ifndef CLIENT_PULL_EMPTINESS_H
#define CLIENT_PULL_EMPTINESS_H

#include "common/copy/source.h"

#include <stdbool.h>

enum emptiness {
    EMPTINESS_ZERO, /* all of it reads as zeroes */
    EMPTINESS_NONE_FOUND,
    EMPTINESS_DATA,
};

/* Look at the device behind fd: its beginning, its end, and places between. 0, or -1 and *err. */
int emptiness_of_device(int fd, const char *name, uint64_t size, enum emptiness *found,
                        GError **err);

/* Look at what the source tells of itself, and at places of what it does not call zero. 0, or -1 and
 * *err. */
int emptiness_of_source(struct copy_source *s, enum emptiness *found, GError **err);

#endif
