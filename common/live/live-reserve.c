/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-reserve.h"

#include <errno.h>

int live_reserve_init(struct live_image *image, struct q2_error *err)
{
    return q2_fail(err, "not built yet");
}
void live_reserve_clear(struct live_image *image)
{
}
int live_reserve_take(struct live_image *image, unsigned n, uint64_t *host)
{
    return -ENOTSUP;
}
int live_reserve_take_table(struct live_image *image, uint64_t *host)
{
    return -ENOTSUP;
}
void live_reserve_drop(struct live_image *image, uint64_t host, unsigned n)
{
}
void live_reserve_give_up(struct live_image *image, uint64_t host, uint64_t bytes)
{
}
uint64_t live_reserve_given_up(struct live_image *image)
{
    return 0;
}
int live_reserve_count_down(struct live_image *image, uint64_t n)
{
    return -ENOTSUP;
}
int live_reserve_fill(struct live_image *image)
{
    return -ENOTSUP;
}
bool live_reserve_is_metadata(const struct live_image *image, uint64_t host)
{
    return false;
}
int live_reserve_return(struct live_image *image)
{
    return -ENOTSUP;
}
