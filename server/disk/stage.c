/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/stage.h"
#include "common/util/error.h"

#include <string.h>

int fail_drain(struct disk *d, GError **err)
{
    return fail(err, "disk %s: writes under way did not end within %d s", d->node.name,
                (int)(d->drain_usec / G_USEC_PER_SEC));
}

/* ---- stages ---- */

static void staged_bitmap_free(gpointer p)
{
    struct staged_bitmap *s = p;

    dirty_bitmap_unref(s->db);
    bitmap_unref(s->bits);
    g_array_unref(s->feeds);
    g_free(s);
}

static GArray *feeds_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct feed));
}

struct staged_bitmap *stage_bitmap(struct stage *st, struct dirty_bitmap *db, struct bitmap *bits,
                                   bool recording)
{
    struct staged_bitmap *s = g_new0(struct staged_bitmap, 1);

    s->db = db;
    s->bits = bits;
    s->recording = recording;
    s->feeds = feeds_new();
    g_ptr_array_add(st->bitmaps, s);
    return s;
}

static void unref_bitmap(gpointer bits)
{
    bitmap_unref(bits);
}

static void unref_mark(gpointer mark)
{
    bitmap_unref(((struct mark *)mark)->bits);
}

static void free_view(gpointer v)
{
    view_free(v);
}

static struct stage *stage_new(struct disk *d)
{
    struct stage *st = g_new0(struct stage, 1);
    g_autoptr(GPtrArray) now = disk_bitmaps(d);

    st->disk = d;
    st->bitmaps = g_ptr_array_new_with_free_func(staged_bitmap_free);
    st->shadows = mark_array_new();
    g_array_set_clear_func(st->shadows, unref_mark);
    st->views = g_ptr_array_new_with_free_func(free_view);
    st->garbage = g_ptr_array_new_with_free_func(unref_bitmap);
    for (unsigned i = 0; i < now->len; i++) {
        struct dirty_bitmap *db = now->pdata[i];
        struct staged_bitmap *s =
            stage_bitmap(st, dirty_bitmap_ref(db), dirty_bitmap_bits(db), db->recording);
        struct feed own = {.disk = d, .grain = db->granularity};

        if (s->recording)
            g_array_append_val(s->feeds, own);
    }
    return st;
}

void stage_free(gpointer p)
{
    struct stage *st = p;

    tracker_free(st->tracker);
    g_ptr_array_unref(st->bitmaps);
    g_array_unref(st->shadows);
    g_ptr_array_unref(st->views);
    g_ptr_array_unref(st->garbage);
    if (st->list)
        g_ptr_array_unref(st->list);
    if (!atomic_load(&st->disk->newest) && limbo_is_empty(st->disk)) {
        scratch_free(st->disk->scratch);
        st->disk->scratch = NULL;
    }
    g_free(st);
}

struct stage *stage_of(struct instant *i, struct disk *d)
{
    struct stage *st;

    for (unsigned k = 0; k < i->stages->len; k++) {
        st = i->stages->pdata[k];
        if (st->disk == d)
            return st;
    }
    st = stage_new(d);
    g_ptr_array_add(i->stages, st);
    return st;
}

struct staged_bitmap *stage_find(struct stage *st, const char *name, GError **err)
{
    for (unsigned i = 0; i < st->bitmaps->len; i++) {
        struct staged_bitmap *s = st->bitmaps->pdata[i];

        if (strcmp(s->db->name, name) == 0)
            return s;
    }
    fail(err, "Dirty bitmap '%s' not found", name);
    return NULL;
}

struct staged_bitmap *stage_find_free(struct stage *st, const char *name, GError **err)
{
    struct staged_bitmap *s = stage_find(st, name, err);
    struct dirty_bitmap_info info;

    if (!s)
        return NULL;
    dirty_bitmap_info(s->db, &info);
    if (info.busy) {
        fail(err, "Bitmap '%s' is currently in use by another operation and cannot be used", name);
        return NULL;
    }
    return s;
}

/* ---- gates ---- */

void stages_open_gates(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        if (st->closed)
            gate_open(&st->disk->gate);
        st->closed = false;
    }
}

int stages_close_gates(struct instant *i, GError **err)
{
    gint64 begin = g_get_monotonic_time();

    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        st->closed = st->tracker != NULL;
        if (st->closed)
            gate_shut(&st->disk->gate);
    }
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        if (st->closed && !gate_drain(&st->disk->gate, begin + st->disk->drain_usec)) {
            stages_open_gates(i);
            return fail_drain(st->disk, err);
        }
    }
    return 0;
}

/* ---- shadows ---- */

/* What a feed marks, a coarser one of the same disk marks as well. */
static bool has_feed(const struct staged_bitmap *s, struct feed feed)
{
    for (unsigned k = 0; k < s->feeds->len; k++) {
        struct feed have = g_array_index(s->feeds, struct feed, k);

        if (have.disk == feed.disk && have.grain >= feed.grain)
            return true;
    }
    return false;
}

void stage_merge(struct instant *i, struct staged_bitmap *s, struct bitmap *from, GArray *feeds)
{
    struct copy copy = {.to = bitmap_ref(s->bits), .from = bitmap_ref(from)};

    for (unsigned k = 0; k < feeds->len; k++) {
        struct feed feed = g_array_index(feeds, struct feed, k);

        feed.grain = MAX(feed.grain, s->db->granularity);
        if (has_feed(s, feed))
            continue;
        mark_array_add(stage_of(i, feed.disk)->shadows, bitmap_ref(s->bits), feed.grain);
        g_array_append_val(s->feeds, feed);
    }
    g_array_append_val(i->copies, copy);
}

int stage_make_own(struct instant *i, struct staged_bitmap *s, uint64_t size, GError **err)
{
    struct bitmap *bits = bitmap_new(size, s->db->granularity, err), *old = s->bits;
    g_autoptr(GArray) feeds = NULL;

    if (!bits)
        return -1;
    feeds = g_steal_pointer(&s->feeds);
    s->feeds = feeds_new();
    s->bits = bits;
    s->ours = true;
    stage_merge(i, s, old, feeds);
    bitmap_unref(old);
    return 0;
}

static void prepare_shadows(struct stage *st)
{
    g_autoptr(GArray) marks = mark_array_new();

    if (st->shadows->len == 0)
        return;
    g_array_append_vals(marks, st->disk->tracker->marks, st->disk->tracker->n);
    g_array_append_vals(marks, st->shadows->data, st->shadows->len);
    st->tracker = tracker_new(marks);
}

static void enter_shadows(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        st->shadowed = st->closed;
        if (st->closed)
            stage_swap_tracker(st);
    }
    stages_open_gates(i);
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        tracker_free(g_steal_pointer(&st->tracker));
        if (st->shadowed)
            disk_at(st->disk, POINT_SHADOWED, 0);
    }
}

int stages_copy_bits(struct instant *i, GError **err)
{
    if (i->copies->len == 0)
        return 0;
    for (unsigned k = 0; k < i->stages->len; k++)
        prepare_shadows(i->stages->pdata[k]);
    if (stages_close_gates(i, err) < 0)
        return -1;
    enter_shadows(i);
    for (unsigned k = 0; k < i->copies->len; k++) {
        struct copy copy = g_array_index(i->copies, struct copy, k);

        bitmap_merge(copy.to, copy.from);
    }
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(((struct stage *)i->stages->pdata[k])->disk, POINT_BITS_COPIED, 0);
    return 0;
}

/* A shadow that cannot be removed, because writes under way do not end, does no harm: it costs a
 * little time a write, until the next tracker comes. */
void stage_remove_shadows(struct stage *st)
{
    g_autoptr(GArray) recorded = mark_array_new();
    struct disk *d = st->disk;

    if (!st->shadowed)
        return;
    for (unsigned i = 0; i < d->bitmaps->len; i++) {
        struct dirty_bitmap *db = d->bitmaps->pdata[i];

        if (db->recording)
            mark_array_add(recorded, db->bits, db->granularity);
    }
    tracker_free(st->tracker); /* it was for after the instant */
    st->tracker = tracker_new(recorded);
    if (gate_close(&d->gate, g_get_monotonic_time() + d->drain_usec / 10)) {
        stage_swap_tracker(st);
        gate_open(&d->gate);
    }
}
