/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-compressed.h"

#include <errno.h>

int live_compressed_init(struct live_layer *l)
{
    return 0;
}
void live_compressed_clear(struct live_layer *l)
{
}
int live_compressed_read(struct live_layer *l, uint64_t host, uint32_t bytes, void *buffer,
                         size_t within, size_t length, const char **why)
{
    return -ENOTSUP;
}
