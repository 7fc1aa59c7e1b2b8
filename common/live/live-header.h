/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changing the header of a writable image: fields in its first sector, each change one durable write
 * of that sector, under a lock of its own. Any thread.
 */
#ifndef COMMON_LIVE_LIVE_HEADER_H
#define COMMON_LIVE_LIVE_HEADER_H

#include "common/live/live-private.h"

/* Read the first sector. Nothing is written. Called by live_open of a writable image. 0, or -1 and *err. */
int live_header_begin(struct live_image *image, struct q2_error *err);
/* Before the first change of anything, and when nothing can refuse the image any more: clear, durably,
 * autoclear bits that are not known. 0, or -1 and *err. */
int live_header_clear_unknown(struct live_image *image, struct q2_error *err);
void live_header_end(struct live_image *image);

/* All return 0 or a negative errno: the file has the old sector. image->header follows. */
int live_header_set_refcount_table(struct live_image *image, uint64_t offset, uint32_t clusters);
int live_header_set_l1(struct live_image *image, uint64_t offset, uint32_t entries);
int live_header_set_size(struct live_image *image, uint64_t size);
int live_header_set_corrupt(struct live_image *image);

#endif
