/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-ops.h"

#include <errno.h>

int live_ranges_init(struct live_image *image)
{
    return -ENOTSUP;
}
void live_ranges_clear(struct live_image *image)
{
}
int live_pwrite(struct live_image *image, const void *buffer, size_t length, uint64_t offset,
                unsigned flags)
{
    return -ENOTSUP;
}
int live_flush(struct live_image *image)
{
    return -ENOTSUP;
}
