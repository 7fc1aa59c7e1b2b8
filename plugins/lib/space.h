/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of an image is allocated. As image.h's data functions: 0, or -1 with errno; -1 with ENOTSUP
 * means that the file, or its file system, cannot do this, and that nothing was changed.
 */
#ifndef PLUGINS_LIB_SPACE_H
#define PLUGINS_LIB_SPACE_H

#include "plugins/lib/image.h"

int image_trim(struct image *im, uint32_t count, uint64_t offset);
/* may_trim: a hole is welcome; else the range stays, or becomes, allocated. fast: do it only if the
 * file system or device need not write the zeroes. */
int image_zero(struct image *im, uint32_t count, uint64_t offset, bool may_trim, bool fast);
/* Can holes be found in this image? */
bool image_knows_holes(const struct image *im);
/* Call `tell` with each extent from `offset` on, in order; with `one`, only with the first. The
 * last extent is told in its full length, which may reach far beyond offset + count: so a hole of
 * any size takes one question. `tell` returns 0 to go on. -1 if it or the image failed. */
int image_map(struct image *im, uint32_t count, uint64_t offset, bool one,
              int (*tell)(void *opaque, uint64_t offset, uint64_t length, bool hole), void *opaque);

#endif
