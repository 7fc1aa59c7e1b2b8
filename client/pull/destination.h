/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a person wants a disk to be copied to: a raw file, a block device, a new qcow2 file, an NBD
 * URI, or "-". Opens it with the checks that keep people from destroying something, and gives it its
 * name when it is whole. One thread.
 */
#ifndef CLIENT_PULL_DESTINATION_H
#define CLIENT_PULL_DESTINATION_H

#include "common/copy/target.h"
#include "common/qcow2/q2-header.h"

#include <stdbool.h>

enum destination_format { DESTINATION_DEFAULT, DESTINATION_RAW, DESTINATION_QCOW2 };

struct destination_options {
    const char *target; /* a path, an NBD URI, or "-" */
    enum destination_format
        format;       /* DEFAULT: qcow2 where the name ends so, or with a base; else raw */
    const char *base; /* backing file of a new qcow2: a path as the user gave it; NULL: none */
    bool changes;     /* only changes come: what exists (raw file, device, NBD export) is
                                      updated in place, and must be there, with at least the size */
    bool force;       /* also into what is there and not empty */
    bool compress;
    enum q2_compression compression;
    int level;
    bool detect_zeroes;
    unsigned lanes, connections, retry; /* as in targets.h */
};

struct destination;

/* Open it for a disk of `size` bytes. Without `force` and `changes`: a file must not exist, or be
 * empty; a device or an export must be large enough and must not hold data, as far as a look at it
 * shows. NULL and *err. */
struct destination *destination_open(const struct destination_options *o, uint64_t size,
                                     GError **err);
struct copy_target *destination_target(struct destination *d); /* the destination's */
/* After the copy has ended well: give it its name. 0, or -1 and *err. */
int destination_commit(struct destination *d, GError **err);
/* Close it; what is not committed is removed, where it was new. NULL is fine. */
void destination_free(struct destination *d);

#endif
