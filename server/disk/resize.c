/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A resize is an instant of its own: bitmaps of the new size, and the size, change at one point.
 *
 * The image grows before anything is prepared: whether it can is for it to say, and what recording
 * bitmaps take for what grows, all of it dirty, may be much. Nobody is told of the new size until
 * the instant, so nobody comes there, and where the rest fails it shrinks again.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/stage.h"

/* A client that opens the disk meanwhile must not be told more than the image has, so growth is
 * told when it is done. Shrinking is told before it is done: a client counts itself in `ios` and
 * then reads the size; we store the size and then look at `ios`: one of the two notices. */
int stage_resize(struct stage *st, GError **err)
{
    struct disk *d = st->disk;
    uint64_t old = atomic_load(&d->size);

    if (!st->resize)
        return 0;
    if (st->size < old) {
        atomic_store(&d->size, st->size);
        if (atomic_load(&d->ios) > 0) {
            atomic_store(&d->size, old);
            return fail(err, "disk %s: cannot shrink while a client is connected", d->node.name);
        }
        if (d->backend->ops->resize(d->handle, st->size, err) < 0) {
            atomic_store(&d->size, old);
            return -1;
        }
    }
    atomic_store(&d->size, st->size);
    d->handle->size = st->size;
    return 0;
}

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

/* The image alone, while no request is under way. */
static int resize_image(struct disk *d, uint64_t size, GError **err)
{
    int r;

    if (!gate_close(&d->gate, g_get_monotonic_time() + d->drain_usec))
        return fail_drain(d, err);
    r = d->backend->ops->resize(d->handle, size, err);
    gate_open(&d->gate);
    return r;
}

/* The instant of a resize, prepared; NULL: *err. */
static struct instant *prepare(struct disk *d, uint64_t size, GError **err)
{
    struct instant *i = instant_new();
    struct stage *st = stage_of(i, d);

    st->resize = true;
    st->size = size;
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        if (stage_make_own(i, s, size, err) < 0) {
            g_prefix_error(err, "disk %s: bitmap %s: ", d->node.name, s->db->name);
            instant_abort(i);
            return NULL;
        }
        if (s->recording && size > disk_size(d)) /* now, not while guests wait: it may be much */
            bitmap_set(s->bits, disk_size(d), size - disk_size(d));
    }
    return i;
}

int disk_resize(struct disk *d, uint64_t size, GError **err)
{
    uint64_t old = disk_size(d);
    g_autoptr(GError) again = NULL;
    struct instant *i;

    if (check_resize(d, size, err) < 0 || (size >= old && resize_image(d, size, err) < 0))
        return -1;
    i = prepare(d, size, err);
    if (i && instant_commit(i, err) == 0)
        return 0;
    if (size > old && resize_image(d, old, &again) < 0)
        log_error("disk %s: the image stays longer than the disk: %s", d->node.name,
                  again->message);
    return -1;
}
