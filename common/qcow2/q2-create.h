/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making an empty qcow2 image: version 3, of any cluster size and width of counts. The header is
 * written last: a file that is not whole has no magic, and nothing takes it for an image.
 */
#ifndef COMMON_QCOW2_Q2_CREATE_H
#define COMMON_QCOW2_Q2_CREATE_H

#include "common/qcow2/q2-error.h"

#include <stdbool.h>
#include <stdint.h>

enum q2_preallocation {
    Q2_PREALLOCATION_OFF,
    Q2_PREALLOCATION_METADATA, /* each cluster has its place, which is a hole of the file */
    Q2_PREALLOCATION_FALLOC,   /* the same, with room on the file system */
};

struct q2_create_options {
    uint64_t size;           /* of the disk: bytes, a multiple of 512; 0 is allowed */
    unsigned cluster_bits;   /* 9..21 */
    unsigned refcount_order; /* 0..6 */
    bool extended;           /* subclusters: cluster_bits is at least 14 */
    /* Names as they are written; NULL: none. A backing file has its format, "raw" or "qcow2". */
    const char *backing, *backing_format;
    const char *data_file;
    bool data_file_raw; /* the data file alone is the disk: each cluster gets its entry */
    enum q2_preallocation preallocation;
};

/* Can there be such an image? 0, or -1 and *err, a sentence about the options. */
int q2_create_check(const struct q2_create_options *o, struct q2_error *err);

/*
 * Make it, durably. `fd` is an empty regular file, open for reading and writing; `data_fd` is the data
 * file, or -1: it is made as long as the disk, and what is in it is the disk's content where
 * clusters are given their place. Both stay the caller's. 0, or -1 and *err: the file is of no
 * use. One thread.
 */
int q2_create(int fd, int data_fd, const struct q2_create_options *o, struct q2_error *err);

#endif
