/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live.h"

#include <errno.h>

int live_resize(struct live_image *image, uint64_t size)
{
    return -ENOTSUP;
}
