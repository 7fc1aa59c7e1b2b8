/* SPDX-License-Identifier: BSD-3-Clause */
/* A qcow2 image that goes into a pipe: its map is read from the source before its data. */
#ifndef CLIENT_PULL_QCOW2_PIPE_H
#define CLIENT_PULL_QCOW2_PIPE_H

#include "common/copy/target.h"

struct qcow2_pipe_options {
    int fd;                               /* lent; written to in order */
    const char *name;                     /* for errors */
    uint64_t size;                        /* of the disk, bytes */
    struct copy_source *source;           /* whose map is read now; not used later */
    const char *backing, *backing_format; /* as in targets.h */
};

/*
 * Read the map, write the head of the image, and give the target that takes the data. What comes
 * later and does not fit the map is an error: the disk changes while it is read. NULL and *err.
 */
struct copy_target *qcow2_pipe_new(const struct qcow2_pipe_options *o, GError **err);

#endif
