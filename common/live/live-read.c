/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-ops.h"

#include <errno.h>

struct live_segment live_map(struct live_image *image, uint64_t offset, uint64_t length,
                             bool writing)
{
    return (struct live_segment){.place = LIVE_SLOW, .length = length};
}
int live_pread(struct live_image *image, void *buffer, size_t length, uint64_t offset)
{
    return -ENOTSUP;
}
int live_cache(struct live_image *image, uint64_t length, uint64_t offset)
{
    return 0;
}
int live_extent(struct live_image *image, uint64_t length, uint64_t offset, uint64_t *run,
                bool *hole, bool *zero)
{
    return -ENOTSUP;
}
int live_layer_pread(struct live_layer *l, void *buffer, size_t length, uint64_t offset)
{
    return -ENOTSUP;
}
int live_layer_is_zero(struct live_layer *l, uint64_t length, uint64_t offset)
{
    return -ENOTSUP;
}
