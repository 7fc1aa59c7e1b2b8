/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The instant itself: what the stages of all its disks have prepared takes effect.
 *
 * Where no store has a part in it, all of it does so at once, under the shut gates. Where one has, the
 * instant must become durable between (server/state/state.h): under the shut gates only what writers
 * do is changed. They record into the old bits and the new ones, and keep old data for the new views
 * and no longer for those that leave. What everybody else sees (lists, bits, sizes) changes when it
 * is published. Until then the flip can be undone: the new bits are dropped, and the new views leave
 * the chain again. What they have kept meanwhile goes to older views that need it.
 *
 * A view that leaves the chain has handed its blocks over before the flip, so this is not undone.
 */
#include "common/util/error.h"
#include "server/disk/disk.h"
#include "server/disk/stage.h"
#include "server/disk/view-chain.h"
#include "server/disk/view-map.h"

static struct stage *stage_at(const struct instant *i, unsigned k)
{
    return i->stages->pdata[k];
}

/* ---- the flip ---- */

static bool has_mark(const GArray *marks, const struct bitmap *bits)
{
    for (unsigned k = 0; k < marks->len; k++)
        if (g_array_index(marks, struct mark, k).bits == bits)
            return true;
    return false;
}

/* Until the instant is durable, writes go into what was recorded before, too. */
static void prepare_trackers(struct stage *st, GArray *recorded)
{
    g_autoptr(GArray) both = mark_array_new();

    if (!st->instant->state) {
        st->tracker = tracker_new(recorded);
        return;
    }
    st->last = tracker_new(recorded);
    disk_add_recorded(st->disk, both);
    for (unsigned k = 0; k < recorded->len; k++) {
        struct mark mark = g_array_index(recorded, struct mark, k);

        if (!has_mark(both, mark.bits))
            g_array_append_val(both, mark);
    }
    st->tracker = tracker_new(both);
}

/* Does any of it change what writers do, or what everybody sees? */
static bool flips(const struct stage *st)
{
    bool any = st->instant->resizes || st->removed->len > 0 || st->shadows->len > 0 ||
               st->frozen->len > 0 || st->views->len > 0 || st->leaving->len > 0 ||
               st->at_flip->len > 0;

    for (unsigned n = 0; n < st->bitmaps->len && !any; n++)
        any = stage_replaces(st->bitmaps->pdata[n]);
    return any;
}

static void prepare_stage(struct stage *st)
{
    g_autoptr(GArray) recorded = mark_array_new();

    st->flips = flips(st);
    if (!st->flips)
        return;
    st->list = dirty_bitmap_array_new();
    for (unsigned n = 0; n < st->bitmaps->len; n++) {
        struct staged_bitmap *s = st->bitmaps->pdata[n];

        g_ptr_array_add(st->list, dirty_bitmap_ref(s->db));
        if (!st->instant->state)
            s->reason = stage_reason(st, s);
        if (s->recording && s->bits && (s->persistent || !s->reason))
            mark_array_add(recorded, s->bits, s->db->granularity);
    }
    prepare_trackers(st, recorded);
    g_ptr_array_set_size(st->garbage, (int)(st->bitmaps->len + st->removed->len));
    g_ptr_array_set_size(st->garbage, 0);
    st->closes = true;
}

/* What each disk will be. All that the flip needs is allocated here: it allocates nothing. A disk of
 * which nothing changes keeps its gate open, e.g. if the instant has only a record for its store. */
static bool prepare(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        prepare_stage(stage_at(i, k));
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

static void link_views(struct stage *st, int64_t now)
{
    struct disk *d = st->disk;

    pthread_mutex_lock(&d->lock);
    for (unsigned k = 0; k < st->views->len; k++)
        view_link(st->views->pdata[k], now);
    pthread_mutex_unlock(&d->lock);
    st->linked = true;
    for (unsigned k = 0; k < st->leaving->len; k++)
        view_unlink(st->leaving->pdata[k]);
}

/* No export may take what is about to be replaced. */
static void set_changing(struct stage *st, bool changing)
{
    for (unsigned k = 0; k < st->removed->len; k++)
        dirty_bitmap_changing(st->removed->pdata[k], changing);
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        if (s->changes)
            dirty_bitmap_changing(s->db, changing);
    }
}

static void call_hooks(struct stage *st)
{
    for (unsigned k = 0; k < st->at_flip->len; k++) {
        struct hook h = g_array_index(st->at_flip, struct hook, k);

        h.fn(h.opaque);
    }
}

/* ---- what everybody sees ---- */

static void publish_lists(struct stage *st)
{
    struct disk *d = st->disk;
    GPtrArray *list = d->bitmaps;

    d->bitmaps = st->list;
    st->list = list;
    for (unsigned k = 0; k < st->views->len; k++)
        g_ptr_array_add(d->views, st->views->pdata[k]);
    g_ptr_array_set_free_func(st->views, NULL);
    st->linked = false;
}

/* It may have broken since all were asked. What its bits were copied from does not matter any more:
 * what breaks now was good when they were copied. */
static char *late_reason(const struct stage *st, const struct staged_bitmap *s)
{
    if (!s->fresh)
        return dirty_bitmap_reason(s->db);
    return s->persistent ? g_strdup(disk_break_locked(st->disk, s->bits)) : NULL;
}

/* Tell of one that was good, or was to begin anew, and is inconsistent all the same. */
static void tell_reason(const struct stage *st, const struct staged_bitmap *s)
{
    const struct disk_events *events = &st->disk->events;
    g_autofree char *before = dirty_bitmap_reason(s->db);

    if (s->reason && g_strcmp0(before, s->reason) != 0 && events->bitmap_inconsistent)
        events->bitmap_inconsistent(events->opaque, st->disk->node.name, s->db->name, s->reason);
}

static void publish_bitmap(struct stage *st, struct staged_bitmap *s)
{
    if (!stage_replaces(s))
        return;
    if (!s->reason)
        s->reason = late_reason(st, s);
    tell_reason(st, s);
    g_ptr_array_add(st->garbage,
                    dirty_bitmap_replace(s->db, g_steal_pointer(&s->bits), s->recording,
                                         s->persistent, g_steal_pointer(&s->reason)));
}

/* All of it under the lock under which bitmaps break (disk_bitmaps_broken): what comes before that is
 * asked here, and what comes later finds the new bits. */
static void publish_stage(struct stage *st)
{
    struct disk *d = st->disk;

    pthread_mutex_lock(&d->lock);
    publish_lists(st);
    for (unsigned k = 0; k < st->removed->len; k++)
        g_ptr_array_add(st->garbage, dirty_bitmap_remove(st->removed->pdata[k]));
    for (unsigned k = 0; k < st->bitmaps->len; k++)
        publish_bitmap(st, st->bitmaps->pdata[k]);
    pthread_mutex_unlock(&d->lock);
}

static void flip_stage(struct stage *st, int64_t now)
{
    if (!st->flips)
        return;
    stage_swap_tracker(st);
    stage_flip_frozen(st);
    link_views(st, now);
    if (st->instant->state)
        set_changing(st, true);
    else
        publish_stage(st);
    call_hooks(st);
}

/* Bitmaps may have broken since they were asked the last time. */
static void ask_reasons(struct stage *st)
{
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        g_free(s->reason);
        s->reason = stage_reason(st, s);
    }
}

/* All are asked before the first is changed: from that one others may have been made. */
static void ask_all(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        ask_reasons(stage_at(i, k));
}

static int flip(struct instant *i, GError **err)
{
    /* One time for all views: it tells which of them belong together. */
    int64_t now = g_get_real_time();

    for (unsigned k = 0; k < i->stages->len; k++)
        if (check_free(stage_at(i, k), err) < 0)
            return -1;
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(stage_at(i, k)->disk, POINT_GATES_CLOSED, 0);
    for (unsigned k = 0; k < i->stages->len; k++)
        if (stage_ask_frozen(stage_at(i, k), err) < 0)
            return -1;
    if (!i->state) {
        ask_all(i);
        stage_tell_size(i);
    }
    for (unsigned k = 0; k < i->stages->len; k++)
        flip_stage(stage_at(i, k), now);
    i->flipped = true;
    return 0;
}

const struct phase phase_flip = {.prepare = prepare, .flip = flip};

const struct phase phase_shrink = {
    .working = "the image is being resized",
    .prepare = prepare,
    .closed_work = stage_shrink,
    .flip = flip,
};

/* ---- after the commit ---- */

static bool to_publish(struct instant *i)
{
    return i->state != NULL;
}

/* The image has its new size although the store could not commit it. So have the bitmaps, but in the
 * store they have the old one: they do not survive. The store has to know that before changes are
 * marked in the new bits alone. */
static void give_up_bitmaps(struct instant *i)
{
    struct disk *d = stage_at(i, 0)->disk;

    if (!i->uncommitted)
        return;
    d->state.ops->broken(d->state.disk, i->uncommitted->message);
    disk_bitmaps_broken(d, NULL, i->uncommitted->message);
}

static int publish(struct instant *i, GError **err)
{
    give_up_bitmaps(i);
    ask_all(i);
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(stage_at(i, k)->disk, POINT_PUBLISHING, 0);
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        if (!st->flips)
            continue;
        publish_stage(st);
        stage_replace_tracker(st, g_steal_pointer(&st->last));
    }
    stage_tell_size(i);
    return 0;
}

const struct phase phase_publish = {.prepare = to_publish, .flip = publish};

/* ---- instead of it ---- */

/* Nothing more is kept into them. Writers who are just doing so have ended when the gates are drained.
 * Nobody was told of these views, so nobody is told of their end. */
static bool retire_views(struct instant *i)
{
    bool any = false;

    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        for (unsigned n = 0; n < st->views->len; n++)
            view_set_state(st->views->pdata[n], VIEW_RETIRING);
        st->closes = st->views->len > 0;
        any |= st->closes;
    }
    return any;
}

/* Older views may need what they have kept. */
static int empty_views(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        const struct stage *st = stage_at(i, k);

        for (unsigned n = 0; n < st->views->len; n++) {
            struct view *v = st->views->pdata[n];

            view_hand_over(v, &i->cancelled);
            v->empty = !atomic_load(&i->cancelled);
        }
    }
    return 0;
}

static bool closes_for_views(struct instant *i)
{
    bool any = false;

    for (unsigned k = 0; k < i->stages->len && !atomic_load(&i->cancelled); k++) {
        struct stage *st = stage_at(i, k);

        st->closes = st->views->len > 0;
        any |= st->closes;
    }
    return any;
}

static int unlink_views(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        for (unsigned n = 0; n < st->views->len; n++) {
            view_unlink(st->views->pdata[n]);
            view_free_later(st->views->pdata[n]);
        }
        g_ptr_array_set_free_func(st->views, NULL);
        g_ptr_array_set_size(st->views, 0);
    }
    return 0;
}

static const char left[] = "a view that was given up stays in its chain for now";

const struct phase phase_drop_views = {
    .working = "a view that is given up hands its blocks over",
    .left = left,
    .prepare = retire_views,
    .work = empty_views,
};

const struct phase phase_unlink_views = {
    .working = "a view that is given up leaves its chain",
    .left = left,
    .prepare = closes_for_views,
    .flip = unlink_views,
};

void stage_end_flip(struct stage *st)
{
    if (st->instant->state && st->instant->flipped)
        set_changing(st, false);
    if (!st->linked)
        return;
    g_ptr_array_extend_and_steal(st->disk->strays, g_steal_pointer(&st->views));
    st->views = g_ptr_array_new();
}
