/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live.h"

#include <errno.h>

int live_zero(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags)
{
    return -ENOTSUP;
}
int live_trim(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags)
{
    return 0;
}
