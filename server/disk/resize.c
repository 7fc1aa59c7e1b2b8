/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A resize is an instant of its own: bitmaps of the new size, and the size, change at one point.
 *
 * The image grows before anything is prepared: whether it can is for it to say, and what recording
 * bitmaps take for what grows, all of it dirty, may be much. Nobody is told of the new size until
 * the instant, so nobody comes there, and where the rest fails it shrinks again.
 */
#include "server/disk/resize.h"
#include "common/util/error.h"
#include "server/disk/stage.h"

static int check_resize(struct disk *d, uint64_t size, GError **err)
{
    if (d->readonly)
        return fail(err, "Image is read-only");
    if (!d->backend->ops->resize)
        return fail(err, "Image format driver does not support resize");
    if (size % d->handle->min_block != 0)
        return fail(err, "disk %s: size must be a multiple of its block size, %u bytes",
                    d->node.name, d->handle->min_block);
    if (size >= disk_size(d))
        return 0;
    if (d->views->len > 0)
        return fail(err, "disk %s: cannot shrink while it has views", d->node.name);
    if (atomic_load(&d->ios) > 0)
        return fail(err, "disk %s: cannot shrink while a client is connected", d->node.name);
    return 0;
}

int instant_resize(struct instant *i, struct disk *d, uint64_t size, GError **err)
{
    g_assert(i->stages->len == 0);
    if (!stage_of(i, d, err) || check_resize(d, size, err) < 0)
        return -1;
    i->resizes = true;
    i->size = size;
    i->old_size = disk_size(d);
    return 0;
}

int disk_resize(struct disk *d, uint64_t size, GError **err)
{
    struct instant *i = instant_new();

    if (instant_resize(i, d, size, err) == 0)
        return instant_commit(i, err);
    instant_abort(i);
    return -1;
}
