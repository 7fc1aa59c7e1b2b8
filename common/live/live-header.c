/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-header.h"

#include <errno.h>

int live_header_begin(struct live_image *image, struct q2_error *err)
{
    return q2_fail(err, "not built yet");
}
void live_header_end(struct live_image *image)
{
}
int live_header_set_refcount_table(struct live_image *image, uint64_t offset, uint32_t clusters)
{
    return -ENOTSUP;
}
int live_header_set_l1(struct live_image *image, uint64_t offset, uint32_t entries)
{
    return -ENOTSUP;
}
int live_header_set_size(struct live_image *image, uint64_t size)
{
    return -ENOTSUP;
}
int live_header_set_corrupt(struct live_image *image)
{
    return -ENOTSUP;
}
