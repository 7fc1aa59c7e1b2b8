/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-commit.h"

#include <errno.h>

int live_worker_start(struct live_image *image)
{
    return -ENOTSUP;
}
void live_worker_stop(struct live_image *image)
{
}
void live_worker_wake(struct live_image *image)
{
}
