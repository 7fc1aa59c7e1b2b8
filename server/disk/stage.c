/* SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "server/disk/stage.h"
#include "common/error.h"

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
    st->shadows = g_ptr_array_new_with_free_func(unref_bitmap);
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
    g_ptr_array_unref(st->shadows);
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
    unsigned at;

    for (at = 0; at < i->stages->len; at++) {
        st = i->stages->pdata[at];
        if (st->disk == d)
            return st;
        if (strcmp(st->disk->node.name, d->node.name) > 0)
            break;
    }
    st = stage_new(d);
    g_ptr_array_insert(i->stages, (int)at, st);
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

/* ---- shadows ---- */

static bool swap_tracker(struct disk *d, struct tracker *t, gint64 deadline)
{
    struct tracker *old;

    if (!gate_close(&d->gate, deadline))
        return false;
    old = d->tracker;
    d->tracker = t;
    gate_open(&d->gate);
    tracker_free(old);
    return true;
}

static int add_shadow(struct instant *i, struct feed feed, struct bitmap *bits, GError **err)
{
    g_autoptr(GArray) marks = mark_array_new();
    struct disk *d = feed.disk;
    struct stage *st = stage_of(i, d);
    struct tracker *t;

    g_array_append_vals(marks, d->tracker->marks, d->tracker->n);
    mark_array_add(marks, bits, feed.grain);
    t = tracker_new(marks);
    if (!swap_tracker(d, t, g_get_monotonic_time() + d->drain_usec)) {
        tracker_free(t);
        return fail_drain(d, err);
    }
    g_ptr_array_add(st->shadows, bitmap_ref(bits));
    return 0;
}

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

int stage_add_feeds(struct instant *i, struct staged_bitmap *s, GArray *feeds, GError **err)
{
    for (unsigned k = 0; k < feeds->len; k++) {
        struct feed feed = g_array_index(feeds, struct feed, k);

        feed.grain = MAX(feed.grain, s->db->granularity);
        if (has_feed(s, feed))
            continue;
        if (add_shadow(i, feed, s->bits, err) < 0)
            return -1;
        g_array_append_val(s->feeds, feed);
    }
    return 0;
}

int stage_make_own(struct instant *i, struct staged_bitmap *s, uint64_t size, GError **err)
{
    g_autoptr(GArray) feeds = g_steal_pointer(&s->feeds);
    struct bitmap *old = s->bits;
    int result;

    s->feeds = feeds_new();
    s->bits = bitmap_new(size, s->db->granularity, err);
    if (!s->bits) {
        s->bits = old;
        return -1;
    }
    s->ours = true;
    result = stage_add_feeds(i, s, feeds, err);
    if (result == 0)
        bitmap_merge(s->bits, old);
    bitmap_unref(old);
    return result;
}

/* A shadow that cannot be removed, because writes under way do not end, does no harm: it costs a
 * little time a write, until the next tracker comes. */
void stage_remove_shadows(struct stage *st)
{
    g_autoptr(GArray) recorded = mark_array_new();
    struct tracker *t;

    if (st->shadows->len == 0)
        return;
    for (unsigned i = 0; i < st->disk->bitmaps->len; i++) {
        struct dirty_bitmap *db = st->disk->bitmaps->pdata[i];

        if (db->recording)
            mark_array_add(recorded, db->bits, db->granularity);
    }
    t = tracker_new(recorded);
    if (!swap_tracker(st->disk, t, g_get_monotonic_time() + st->disk->drain_usec / 10))
        tracker_free(t);
}
