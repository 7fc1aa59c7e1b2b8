/* SPDX-License-Identifier: BSD-3-Clause */
/* Decompression of clusters: zlib (raw deflate) and zstd. One thread. */
#ifndef COMMON_QCOW2_Q2_CODEC_H
#define COMMON_QCOW2_Q2_CODEC_H

#include "common/qcow2/q2-error.h"
#include "common/qcow2/q2-header.h"

#include <stddef.h>

struct q2_codec; /* contexts, which are made when they are first needed */

struct q2_codec *q2_codec_new(struct q2_error *err); /* NULL and *err */
void q2_codec_free(struct q2_codec *c);              /* NULL is fine */

/* Decompress into exactly `to_length` bytes. What follows in `from` is not looked at: it is known in
 * whole sectors only. 0, or -1 and *err, which says why and not where. */
int q2_decompress(struct q2_codec *c, enum q2_compression type, const void *from,
                  size_t from_length, void *to, size_t to_length, struct q2_error *err);

#endif
