/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache of aligned pieces (slices) of a file, each as it is there. One thread. */
#ifndef COMMON_QCOW2_Q2_SLICES_H
#define COMMON_QCOW2_Q2_SLICES_H

#include "common/qcow2/q2-file.h"

struct q2_slice;

struct q2_slices {
    const struct q2_file *file;
    size_t bytes;   /* of a slice, a power of two */
    unsigned slots; /* a power of two; each takes memory when it is first needed */
    unsigned loads; /* slices that were read, ever */
    struct q2_slice *slice;
};

/* `memory`: most bytes of all slices, but there is one in any case. 0, or -1 and *err. */
int q2_slices_init(struct q2_slices *s, const struct q2_file *file, size_t bytes, size_t memory,
                   struct q2_error *err);
void q2_slices_clear(struct q2_slices *s);

/* Have the slice that `offset` lies in, and return the place of that byte; it stays until the next
 * call. NULL and *err. */
const uint8_t *q2_slices_get(struct q2_slices *s, uint64_t offset, struct q2_error *err);

#endif
