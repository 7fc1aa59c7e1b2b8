/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-change.h"
#include "common/live/live-find.h"
#include "common/live/live-ops.h"

#include <errno.h>
#include <stdlib.h>

int live_ranges_init(struct live_image *image)
{
    image->ranges = calloc(1, sizeof(*image->ranges));
    if (!image->ranges)
        return -ENOMEM;
    range_lock_init(&image->ranges->lock);
    return 0;
}

void live_ranges_clear(struct live_image *image)
{
    if (!image->ranges)
        return;
    range_lock_destroy(&image->ranges->lock);
    free(image->ranges);
    image->ranges = NULL;
}

void live_change_begin(struct live_change *c, struct live_image *image, uint64_t offset,
                       uint64_t length)
{
    uint64_t mask = image->top->cluster - 1;

    *c = (struct live_change){.image = image, .top = image->top};
    range_take(&image->ranges->lock, &c->held, offset & ~mask, (offset + length + mask) & ~mask,
               true);
}

int live_change_end(struct live_change *c, int error)
{
    range_release(&c->image->ranges->lock, &c->held);
    return c->why ? live_find_invalid(c->top, c->where, c->why) : error;
}

int live_change_look(struct live_change *c, uint64_t offset, uint64_t length, struct live_run *run)
{
    int error = live_slices_run_wait(c->top, offset, length, run);

    if (error < 0 || run->kind != Q2_INVALID)
        return error;
    c->why = run->why;
    c->where = offset;
    return -EIO;
}
