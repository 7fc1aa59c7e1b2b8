/* SPDX-License-Identifier: BSD-3-Clause */
/* A qcow2 image and the chain below it, or part of the chain, as the source of a copy. */
#ifndef COMMON_COPY_SOURCE_IMAGE_H
#define COMMON_COPY_SOURCE_IMAGE_H

#include "common/copy/source.h"
#include "common/qcow2/q2-image.h"

/*
 * `depth`: what is allocated in the image and in so many files below it is copied; UINT_MAX: the
 * whole disk, and what no file has is told as zero. `lanes`: most of them. The image is lent.
 * NULL and *err.
 */
struct copy_source *source_image_new(struct q2_image *image, unsigned depth, unsigned lanes,
                                     GError **err);

#endif
