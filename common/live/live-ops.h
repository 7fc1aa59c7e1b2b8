/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading and changing a live image, for the files of common/live that do it together. */
#ifndef COMMON_LIVE_LIVE_OPS_H
#define COMMON_LIVE_LIVE_OPS_H

#include "common/live/live-private.h"
#include "common/live/live-slices.h"

int live_ranges_init(struct live_image *image); /* 0 or a negative errno */
void live_ranges_clear(struct live_image *image);

/* Read from a layer and those below it (NULL: zeroes), the range lies inside of the disk of the top; behind the
 * end of a layer: as q2_image_extent says. live-read.c. */
int live_layer_pread(struct live_layer *l, void *buffer, size_t length, uint64_t offset);

/* Does the range surely read as zeroes in a layer and those below it (NULL: yes)? May load tables. 1, 0
 * or a negative errno. live-read.c. */
int live_layer_is_zero(struct live_layer *l, uint64_t length, uint64_t offset);

#endif
