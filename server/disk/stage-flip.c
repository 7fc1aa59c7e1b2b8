/* SPDX-License-Identifier: BSD-3-Clause */
/* The instant itself: what the stages of all its disks have prepared takes effect. */
#include "common/util/error.h"
#include "server/disk/stage.h"
#include "server/disk/view-chain.h"

/* What each disk will be. All that the flip needs is allocated here: it allocates nothing. */
static bool prepare(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];
        g_autoptr(GArray) recorded = mark_array_new();

        st->list = dirty_bitmap_array_new();
        for (unsigned n = 0; n < st->bitmaps->len; n++) {
            struct staged_bitmap *s = st->bitmaps->pdata[n];

            g_ptr_array_add(st->list, dirty_bitmap_ref(s->db));
            if (s->recording)
                mark_array_add(recorded, s->bits, s->db->granularity);
        }
        st->tracker = tracker_new(recorded);
        g_ptr_array_set_size(st->garbage, (int)(st->bitmaps->len + st->removed->len));
        g_ptr_array_set_size(st->garbage, 0);
        st->closes = true;
    }
    return true;
}

/* An export may have taken a bitmap or a view while the instant waited. */
static int check_free(const struct stage *st, GError **err)
{
    for (unsigned k = 0; k < st->removed->len; k++)
        if (stage_check_free(st->removed->pdata[k], err) < 0)
            return -1;
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        if (s->changes && stage_check_free(s->db, err) < 0)
            return -1;
    }
    for (unsigned k = 0; k < st->leaving->len; k++) {
        struct view *v = st->leaving->pdata[k];

        if (atomic_load(&v->uses) > 0)
            return fail(err, "Node %s is in use", v->node.name);
    }
    return 0;
}

static void flip_bits(struct stage *st)
{
    for (unsigned k = 0; k < st->removed->len; k++)
        g_ptr_array_add(st->garbage, dirty_bitmap_remove(st->removed->pdata[k]));
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        g_ptr_array_add(st->garbage,
                        dirty_bitmap_replace(s->db, g_steal_pointer(&s->bits), s->recording));
    }
}

static void flip_stage(struct stage *st, int64_t now)
{
    struct disk *d = st->disk;
    GPtrArray *list;

    stage_swap_tracker(st);
    pthread_mutex_lock(&d->lock);
    list = d->bitmaps;
    d->bitmaps = st->list;
    st->list = list;
    for (unsigned k = 0; k < st->views->len; k++) {
        view_link(st->views->pdata[k], now);
        g_ptr_array_add(d->views, st->views->pdata[k]);
    }
    pthread_mutex_unlock(&d->lock);
    g_ptr_array_set_free_func(st->views, NULL);
    for (unsigned k = 0; k < st->leaving->len; k++)
        view_unlink(st->leaving->pdata[k]);
    flip_bits(st);
    for (unsigned k = 0; k < st->at_flip->len; k++) {
        struct hook h = g_array_index(st->at_flip, struct hook, k);

        h.fn(h.opaque);
    }
}

static int flip(struct instant *i, GError **err)
{
    /* One time for all views: it tells which of them belong together. */
    int64_t now = g_get_real_time();

    for (unsigned k = 0; k < i->stages->len; k++)
        if (check_free(i->stages->pdata[k], err) < 0)
            return -1;
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(((struct stage *)i->stages->pdata[k])->disk, POINT_GATES_CLOSED, 0);
    stage_tell_size(i);
    for (unsigned k = 0; k < i->stages->len; k++)
        flip_stage(i->stages->pdata[k], now);
    return 0;
}

const struct phase phase_flip = {.prepare = prepare, .flip = flip};

const struct phase phase_shrink = {
    .working = "the image is being resized",
    .prepare = prepare,
    .closed_work = stage_shrink,
    .flip = flip,
};
