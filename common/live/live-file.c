/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-file.h"

#include <errno.h>

const struct live_file_ops live_file_usual;
int live_file_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    return -ENOTSUP;
}
int live_file_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset)
{
    return -ENOTSUP;
}
int live_file_pwrite_durable(struct live_file *f, const void *buffer, size_t length,
                             uint64_t offset)
{
    return -ENOTSUP;
}
int live_file_sync(struct live_file *f)
{
    return -ENOTSUP;
}
int live_file_extend(struct live_file *f, uint64_t size)
{
    return -ENOTSUP;
}
int live_file_shorten(struct live_file *f, uint64_t size)
{
    return -ENOTSUP;
}
int live_file_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole)
{
    return -ENOTSUP;
}
