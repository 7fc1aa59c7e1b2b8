/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-commit.h"

#include <errno.h>

int live_commit_init(struct live_image *image)
{
    return -ENOTSUP;
}
void live_commit_clear(struct live_image *image)
{
}
int live_commit(struct live_image *image)
{
    return -ENOTSUP;
}
int live_write_back(struct live_image *image)
{
    return -ENOTSUP;
}
