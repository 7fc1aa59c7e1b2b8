/* SPDX-License-Identifier: BSD-3-Clause */
/* The image's part of a resize (see resize.c). */
#include "common/util/error.h"
#include "server/disk/stage.h"

static struct stage *resized(struct instant *i)
{
    return i->stages->pdata[0];
}

static bool shut_gate(struct instant *i)
{
    resized(i)->closes = true;
    return true;
}

/* The time of the change is noted, as of a guest's: it changes the image's mtime. */
static int resize_image(struct disk *d, uint64_t size, GError **err)
{
    const struct disk_state *state = &d->state;
    struct live_line *line = state->ops ? state->ops->line_take(state->disk) : NULL;
    unsigned phase = line ? cover_count_in(state->cover, line) : 0;
    int result;

    if (line)
        atomic_store_explicit(&line->changed, cover_clock(), memory_order_relaxed);
    result = d->backend->ops->resize(d->handle, size, err);
    if (!line)
        return result;
    cover_leave(line, phase);
    state->ops->line_give(state->disk, line);
    return result;
}

/* ---- the store ---- */

/* The image keeps its size over a power loss. */
static int flush_size(struct disk *d, GError **err)
{
    int r = d->handle->can_flush ? d->backend->ops->flush(d->handle) : 0;

    return r < 0 ? fail_errno(err, -r, "disk %s: flush after its resize", d->node.name) : 0;
}

int stage_flush_size(struct instant *i, GError **err)
{
    return i->grown || i->shrunk ? flush_size(resized(i)->disk, err) : 0;
}

static bool tells_store(struct instant *i)
{
    return resized(i)->disk->state.ops != NULL;
}

static int tell_store(struct instant *i, GError **err)
{
    const struct disk_state *state = &resized(i)->disk->state;

    if (state->ops->resize_begin(state->disk, i->size, err) < 0)
        return -1;
    i->resize_begun = true;
    return 0;
}

const struct phase phase_resize = {
    .working = "the resize is being noted",
    .prepare = tells_store,
    .work = tell_store,
};

/* If the image has kept the size that it was to lose again, the store goes on to expect either. */
void stage_end_resize(struct instant *i)
{
    const struct disk_state *state = i->state;

    if (i->resize_begun && !i->committed && !i->grown && !i->shrunk)
        state->ops->resize_cancel(state->disk);
}

/* ---- growth ---- */

static bool prepare_bits(struct instant *i)
{
    resized(i)->closes = i->size >= i->old_size;
    return true;
}

/* Any thread, while no change is under way. Reads, extents and flushes may be. */
static int grow(struct instant *i, GError **err)
{
    struct disk *d = resized(i)->disk;

    if (i->size < i->old_size)
        return 0;
    if (resize_image(d, i->size, err) < 0)
        return -1;
    i->grown = i->size > i->old_size;
    return 0;
}

/* Any thread. All that is new is dirty. Its bits are set now, because they may be many: at the instant
 * guests would wait for that. */
static int make_bits(struct instant *i, GError **err)
{
    struct stage *st = resized(i);

    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        if (stage_make_own(st, s, i->size, err) < 0)
            return -1;
        if (s->recording && i->size > i->old_size)
            bitmap_set(s->bits, i->old_size, i->size - i->old_size);
    }
    return 0;
}

const struct phase phase_grow = {
    .working = "the image is being resized",
    .prepare = prepare_bits,
    .closed_work = grow,
    .work = make_bits,
};

static int ungrow(struct instant *i, GError **err)
{
    struct disk *d = resized(i)->disk;

    if (resize_image(d, i->old_size, err) < 0 || (tells_store(i) && flush_size(d, err) < 0))
        return -1;
    i->grown = false;
    return 0;
}

const struct phase phase_ungrow = {
    .working = "the image is being resized",
    .left = "the image stays longer than the disk",
    .prepare = shut_gate,
    .closed_work = ungrow,
};

/* ---- shrinking ---- */

/* A client that opens the disk meanwhile must not be told a larger size than the image has. So
 * growth is told after it is done, and shrinking before. A client counts itself in `ios` and then
 * reads the size; we store the size and then look at `ios`: at least one of the two sees the
 * other. */
int stage_shrink(struct instant *i, GError **err)
{
    struct disk *d = resized(i)->disk;

    bool in_use = atomic_load(&d->ios) > 0; /* whoever came before is not to see the small size */
    disk_at(d, POINT_SHRINKING, 0);
    if (!in_use) {
        atomic_store(&d->size, i->size);
        in_use = atomic_load(&d->ios) > 0;
    }
    if (in_use) {
        atomic_store(&d->size, i->old_size);
        return fail(err, "disk %s: cannot shrink while a client is connected", d->node.name);
    }
    if (resize_image(d, i->size, err) < 0) {
        atomic_store(&d->size, i->old_size);
        return -1;
    }
    i->shrunk = i->size < i->old_size;
    return 0;
}

void stage_tell_size(struct instant *i)
{
    struct disk *d;

    if (!i->resizes)
        return;
    d = resized(i)->disk;
    atomic_store(&d->size, i->size);
    d->handle->size = i->size;
}
