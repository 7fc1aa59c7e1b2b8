/* SPDX-License-Identifier: BSD-3-Clause */
/* The bits of a bitmap of a folder that nobody serves: read whole, and checked. */
#ifndef COMMON_STATE_BITS_READ_H
#define COMMON_STATE_BITS_READ_H

#include "common/base/bitmap.h"
#include "common/state/catalogue.h"

/* Read the bits that the row speaks of. The caller owns a reference; the storage must stay until the
 * last one is gone. NULL and *err, a sentence that can be the reason why the bitmap is inconsistent:
 * the file is missing, cut short, damaged, another bitmap's, or cannot be read; the checksum is not
 * that of a sealed row; bits beyond the end are set. The row's `inconsistent` is not looked at. */
struct bitmap *bits_read(struct storage *s, const struct catalogue_bitmap *row, GError **err);

#endif
