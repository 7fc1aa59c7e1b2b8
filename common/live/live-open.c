/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live.h"

#include "common/live/live-private.h"

#include <errno.h>

struct live_image *live_open(const char *path, const struct live_options *options,
                             struct q2_error *err)
{
    q2_fail(err, "not built yet");
    return NULL;
}
int live_start(struct live_image *image, struct q2_error *err)
{
    return q2_fail(err, "not built yet");
}
int live_close(struct live_image *image, struct q2_error *err)
{
    return 0;
}
uint64_t live_size(const struct live_image *image)
{
    return image->top->size;
}
bool live_writable(const struct live_image *image)
{
    return image->top->writable;
}
const struct q2_image *live_chain(const struct live_image *image)
{
    return image->chain;
}
int live_fd(const struct live_image *image)
{
    return image->top->file.fd;
}
uint32_t live_preferred(const struct live_image *image)
{
    return 4096;
}
