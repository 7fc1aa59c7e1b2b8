/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How several changes become one instant.
 *
 * Actions do not touch a disk. Each works on a *stage*: what the disk's bitmaps will be, as the
 * actions before it have left them. When all are staged, instant_commit makes the new trackers and
 * lists, shuts the gates of all staged disks, and then waits until nobody is inside any of them
 * (the last thing that can fail): a guest's pause is the longest of these waits and not their sum.
 * It swaps pointers, and opens the gates. To abort is to throw the stages away.
 *
 * A merge is the difficult one: target | source has to be right at the instant, yet copying bits
 * takes time, and guests write meanwhile. So the result is a new bitmap, and before the copying
 * begins it is made a *shadow*: the disks whose writes go into the target or the source record into
 * it too. Whatever is written before the instant is then in the copy or came by the shadow, and the
 * instant itself copies nothing. The actions only note what is to be copied: instant_commit makes
 * all shadows of a disk at once, with one swap of its tracker, and copies then, in the order of the
 * actions. Each staged bitmap knows its *feeds*: the disks whose writes go into its bits before the
 * instant. A bitmap that is staged fresh (added, cleared) has none. Where the source has the
 * coarser granules, a write goes into the shadow as one to all of its granule, as it would by the
 * copy: so the result does not depend on when it came. Bits from which something is to be copied
 * are not changed any more by later actions (`ours`): they get a copy of their own first.
 *
 * A resize uses the same: bitmaps of the new size, shadows while the old bits are copied.
 */
#include "common/util/error.h"
#include "server/disk/stage.h"

#include <inttypes.h>
#include <string.h>

#define DEFAULT_GRANULARITY 65536u
#define MAX_NAME            1023

/* ---- actions ---- */

static void copy_clear(gpointer p)
{
    struct copy *c = p;

    bitmap_unref(c->to);
    bitmap_unref(c->from);
}

struct instant *instant_new(void)
{
    struct instant *i = g_new0(struct instant, 1);

    i->stages = g_ptr_array_new_with_free_func(stage_free);
    i->copies = g_array_new(FALSE, FALSE, sizeof(struct copy));
    g_array_set_clear_func(i->copies, copy_clear);
    return i;
}

static void instant_free(struct instant *i)
{
    g_array_unref(i->copies);
    g_ptr_array_unref(i->stages);
    g_free(i);
}

int instant_bitmap_add(struct instant *i, struct disk *d, const char *name, uint32_t granularity,
                       bool recording, GError **err)
{
    struct stage *st = stage_of(i, d);
    struct bitmap *bits;

    if (granularity == 0)
        granularity = DEFAULT_GRANULARITY;
    if (name[0] == '\0')
        return fail(err, "Bitmap name cannot be empty");
    if (granularity < BITMAP_MIN_GRANULARITY || (granularity & (granularity - 1)))
        return fail(err, "Granularity must be power of 2 and at least 512");
    if (stage_find(st, name, NULL))
        return fail(err, "Bitmap already exists: %s", name);
    if (strlen(name) > MAX_NAME)
        return fail(err, "Bitmap name too long: %s", name);

    bits = bitmap_new(disk_size(d), granularity, err);
    if (!bits) {
        g_prefix_error(err, "disk %s: bitmap %s: ", d->node.name, name);
        return -1;
    }
    stage_bitmap(st, dirty_bitmap_new(name, bitmap_ref(bits), recording), bits, recording)->ours =
        true;
    return 0;
}

int instant_bitmap_remove(struct instant *i, struct disk *d, const char *name, GError **err)
{
    struct stage *st = stage_of(i, d);
    struct staged_bitmap *s = stage_find_free(st, name, err);

    if (!s)
        return -1;
    g_ptr_array_remove(st->bitmaps, s);
    return 0;
}

int instant_bitmap_clear(struct instant *i, struct disk *d, const char *name, GError **err)
{
    struct staged_bitmap *s = stage_find_free(stage_of(i, d), name, err);
    struct bitmap *clean;

    if (!s)
        return -1;
    clean = bitmap_new(bitmap_size(s->bits), s->db->granularity, err);
    if (!clean) {
        g_prefix_error(err, "disk %s: bitmap %s: ", d->node.name, name);
        return -1;
    }
    bitmap_unref(s->bits);
    s->bits = clean;
    s->ours = true;
    g_array_set_size(s->feeds, 0);
    return 0;
}

int instant_bitmap_record(struct instant *i, struct disk *d, const char *name, bool recording,
                          GError **err)
{
    struct staged_bitmap *s = stage_find_free(stage_of(i, d), name, err);

    if (!s)
        return -1;
    s->recording = recording;
    return 0;
}

int instant_bitmap_merge(struct instant *i, struct disk *d, const char *target,
                         struct disk *source_disk, const char *source, GError **err)
{
    struct staged_bitmap *t = stage_find_free(stage_of(i, d), target, err), *s;

    if (!t)
        return -1;
    s = stage_find_free(stage_of(i, source_disk), source, err);
    if (!s)
        return -1;
    if (bitmap_size(t->bits) != bitmap_size(s->bits))
        return fail(err,
                    "Bitmaps are of different sizes (destination size is %" PRIu64
                    ", source size is %" PRIu64 ") and can't be merged",
                    bitmap_size(t->bits), bitmap_size(s->bits));
    if (s == t)
        return 0;
    if (!t->ours && stage_make_own(i, t, bitmap_size(t->bits), err) < 0)
        return -1;
    stage_merge(i, t, s->bits, s->feeds);
    s->ours = false;
    return 0;
}

int instant_view_create(struct instant *i, struct disk *d, const char *name,
                        const struct view_options *options, struct view **view, GError **err)
{
    struct stage *st = stage_of(i, d);
    struct view *v;

    if (!d->scratch) {
        d->scratch = scratch_new(d->pool, d->unit, err);
        if (!d->scratch) {
            g_prefix_error(err, "disk %s: ", d->node.name);
            return -1;
        }
    }
    v = view_new(d, name, options, err);
    if (!v)
        return -1;
    g_ptr_array_add(st->views, v);
    if (view)
        *view = v;
    return 0;
}

/* ---- the instant itself ---- */

/* All that can fail or takes time and needs no closed gate. */
static void prepare(struct stage *st)
{
    g_autoptr(GArray) recorded = mark_array_new();

    st->list = dirty_bitmap_array_new();
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        g_ptr_array_add(st->list, dirty_bitmap_ref(s->db));
        if (s->recording)
            mark_array_add(recorded, s->bits, s->db->granularity);
    }
    st->tracker = tracker_new(recorded);
    /* Room for what the flip puts there, so that it need not allocate. */
    g_ptr_array_set_size(st->garbage, (int)(st->bitmaps->len + st->disk->bitmaps->len));
    g_ptr_array_set_size(st->garbage, 0);
}

static bool stays(const struct stage *st, const struct dirty_bitmap *db)
{
    for (unsigned k = 0; k < st->bitmaps->len; k++)
        if (((struct staged_bitmap *)st->bitmaps->pdata[k])->db == db)
            return true;
    return false;
}

static void flip(struct stage *st, int64_t now)
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

    for (unsigned k = 0; k < list->len; k++)
        if (!stays(st, list->pdata[k]))
            g_ptr_array_add(st->garbage, dirty_bitmap_replace(list->pdata[k], NULL, false));
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        g_ptr_array_add(st->garbage,
                        dirty_bitmap_replace(s->db, g_steal_pointer(&s->bits), s->recording));
    }
}

int instant_commit(struct instant *i, GError **err)
{
    int64_t now; /* one for all: that is how one knows which views belong together */

    if (stages_copy_bits(i, err) < 0) {
        instant_abort(i);
        return -1;
    }
    for (unsigned k = 0; k < i->stages->len; k++)
        prepare(i->stages->pdata[k]);
    if (stages_close_gates(i, err) < 0) {
        instant_abort(i);
        return -1;
    }
    now = g_get_real_time();
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(((struct stage *)i->stages->pdata[k])->disk, POINT_GATES_CLOSED, 0);
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        /* A resize is an instant of its own, so nothing was flipped yet. */
        if (stage_resize(st, err) < 0) {
            stages_open_gates(i);
            instant_abort(i);
            return -1;
        }
        flip(st, now);
    }
    stages_open_gates(i);
    for (unsigned k = 0; k < i->stages->len; k++)
        g_ptr_array_set_free_func(((struct stage *)i->stages->pdata[k])->views, NULL);
    instant_free(i);
    return 0;
}

void instant_abort(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        stage_remove_shadows(i->stages->pdata[k]);
    instant_free(i);
}
