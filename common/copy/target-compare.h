/* SPDX-License-Identifier: BSD-3-Clause */
/* A target that writes nothing: what comes is compared with a qcow2 image and the chain below it. */
#ifndef COMMON_COPY_TARGET_COMPARE_H
#define COMMON_COPY_TARGET_COMPARE_H

#include "common/copy/target.h"
#include "common/qcow2/q2-image.h"

/* Differences are told in units of it, bytes. */
#define COMPARE_UNIT 512

/* A range in which each unit differs. Calls come from several threads, one at a time, in no order; a
 * range may come in parts. 0, or -1 and *err. */
typedef int (*compare_sink)(void *opaque, uint64_t offset, uint64_t length, GError **err);

/* For a disk of `size` bytes; behind its end the image reads as zeroes. It is lent. NULL and *err. */
struct copy_target *target_compare_new(struct q2_image *image, uint64_t size, unsigned lanes,
                                       compare_sink sink, void *opaque, GError **err);

#endif
