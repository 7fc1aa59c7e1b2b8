/* SPDX-License-Identifier: BSD-3-Clause */
/* Leaving the files as they will be found: for who compares them with what they will be later. */
#include "common/live/live-commit.h"
#include "common/live/live-reserve.h"

int live_settle(struct live_image *image)
{
    int r;

    if (!image->top->writable)
        return 0;
    live_worker_stop(image);
    r = live_commit(image);
    return r < 0 ? r : live_reserve_return(image);
}

int live_data_fd(const struct live_image *image)
{
    return image->top->raw ? -1 : image->top->data.fd;
}
