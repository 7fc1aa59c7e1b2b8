/* SPDX-License-Identifier: BSD-3-Clause */
/* What each disk of an instant will be after the actions so far (see instant.c). */
#include "server/disk/disk-scratch.h"
#include "server/disk/instant.h"
#include "server/disk/stage.h"
#include "server/disk/view-chain.h"
#include "common/util/error.h"

#include <string.h>

/* ---- stages ---- */

static void staged_bitmap_free(gpointer p)
{
    struct staged_bitmap *s = p;

    dirty_bitmap_unref(s->db);
    bitmap_unref(s->bits);
    g_array_unref(s->sources);
    g_ptr_array_unref(s->origins);
    g_free(s->reason);
    g_free(s->needed);
    g_free(s);
}

struct staged_bitmap *staged_bitmap_new(struct dirty_bitmap *db, struct bitmap *bits,
                                        bool recording)
{
    struct staged_bitmap *s = g_new0(struct staged_bitmap, 1);

    s->db = db;
    s->bits = bits;
    s->recording = recording;
    s->sources = g_array_new(FALSE, FALSE, sizeof(struct source));
    s->origins = dirty_bitmap_array_new();
    return s;
}

struct staged_bitmap *stage_bitmap(struct stage *st, struct dirty_bitmap *db, struct bitmap *bits,
                                   bool recording)
{
    struct staged_bitmap *s = staged_bitmap_new(db, bits, recording);

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

/* What the disk has now. */
static void stage_present(struct stage *st)
{
    g_autoptr(GPtrArray) now = disk_bitmaps(st->disk);

    for (unsigned i = 0; i < now->len; i++) {
        struct dirty_bitmap *db = now->pdata[i];
        struct staged_bitmap *s =
            stage_bitmap(st, dirty_bitmap_ref(db), dirty_bitmap_bits(db), db->recording);
        struct source own = {.disk = st->disk, .grain = db->granularity};

        s->persistent = db->persistent;
        g_ptr_array_add(s->origins, dirty_bitmap_ref(db));
        if (s->recording)
            g_array_append_val(s->sources, own);
    }
}

static GArray *hooks_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct hook));
}

static void stage_free(gpointer p)
{
    struct stage *st = p;
    struct disk *d = st->disk;

    tracker_free(st->tracker);
    tracker_free(st->last);
    g_ptr_array_unref(st->bitmaps);
    g_ptr_array_unref(st->removed);
    g_ptr_array_unref(st->frozen);
    g_array_unref(st->shadows);
    g_ptr_array_unref(st->views);
    g_ptr_array_unref(st->leaving);
    g_array_unref(st->at_flip);
    g_ptr_array_unref(st->garbage);
    if (st->holds)
        disk_scratch_release(d);
    if (st->list)
        g_ptr_array_unref(st->list);
    disk_watch_breaks(d, false);
    d->instant = NULL;
    g_free(st);
}

static struct stage *stage_new(struct instant *i, struct disk *d)
{
    struct stage *st = g_new0(struct stage, 1);

    st->instant = i;
    st->disk = d;
    st->bitmaps = g_ptr_array_new_with_free_func(staged_bitmap_free);
    st->removed = dirty_bitmap_array_new();
    st->frozen = g_ptr_array_new_with_free_func(staged_bitmap_free);
    st->shadows = mark_array_new();
    g_array_set_clear_func(st->shadows, unref_mark);
    st->views = g_ptr_array_new_with_free_func(free_view);
    st->leaving = g_ptr_array_new();
    st->at_flip = hooks_new();
    st->garbage = g_ptr_array_new_with_free_func(unref_bitmap);
    d->instant = i;
    stage_present(st);
    return st;
}

/* ---- the instant as a whole ---- */

static void copy_clear(gpointer p)
{
    struct copy *c = p;

    bitmap_unref(c->to);
    bitmap_unref(c->from);
}

static void record_clear(gpointer p)
{
    struct state_record *r = p;

    g_free((char *)r->kind);
    g_free((char *)r->name);
}

struct instant *instant_new(void)
{
    struct instant *i = g_new0(struct instant, 1);

    i->stages = g_ptr_array_new_with_free_func(stage_free);
    i->copies = g_array_new(FALSE, FALSE, sizeof(struct copy));
    g_array_set_clear_func(i->copies, copy_clear);
    i->records = g_array_new(FALSE, FALSE, sizeof(struct state_record));
    g_array_set_clear_func(i->records, record_clear);
    i->quiesce = g_array_new(FALSE, FALSE, sizeof(struct quiesce_hook));
    i->on_prepare = g_array_new(FALSE, FALSE, sizeof(struct prepare_hook));
    i->on_commit = hooks_new();
    i->on_abort = hooks_new();
    i->on_end = hooks_new();
    return i;
}

void instant_free(struct instant *i)
{
    g_array_unref(i->copies);
    g_array_unref(i->records);
    g_array_unref(i->quiesce);
    g_ptr_array_unref(i->stages);
    g_array_unref(i->on_prepare);
    g_array_unref(i->on_commit);
    g_array_unref(i->on_abort);
    g_array_unref(i->on_end);
    g_clear_error(&i->error);
    g_clear_error(&i->uncommitted);
    g_free(i);
}

struct stage *stage_have(struct instant *i, struct disk *d)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        if (st->disk == d)
            return st;
    }
    return NULL;
}

struct stage *stage_of(struct instant *i, struct disk *d, GError **err)
{
    struct stage *st = stage_have(i, d);

    if (st)
        return st;
    if (d->instant) {
        fail(err, "disk %s: another command that changes its bitmaps, views or size is under way",
             d->node.name);
        return NULL;
    }
    st = stage_new(i, d);
    g_ptr_array_add(i->stages, st);
    return st;
}

/* ---- bitmaps ---- */

struct bitmap *stage_new_bits(struct stage *st, const char *name, bool persistent, uint64_t size,
                              uint32_t granularity, GError **err)
{
    const struct disk_state *state = &st->disk->state;
    struct bitmap *bits = persistent ? state->ops->bits_new(state->disk, size, granularity, err)
                                     : bitmap_new(size, granularity, err);

    if (!bits)
        g_prefix_error(err, "disk %s: bitmap %s: ", st->disk->node.name, name);
    return bits;
}

int stage_clear(struct stage *st, struct staged_bitmap *s, GError **err)
{
    struct bitmap *clean = stage_new_bits(st, s->db->name, s->persistent, disk_size(st->disk),
                                          s->db->granularity, err);

    if (!clean)
        return -1;
    bitmap_unref(s->bits);
    s->bits = clean;
    s->ours = s->fresh = true;
    g_array_set_size(s->sources, 0);
    g_ptr_array_set_size(s->origins, 0);
    return 0;
}

bool stage_replaces(const struct staged_bitmap *s)
{
    return s->changes || s->fresh;
}

/* An origin may have become inconsistent after its bits were copied. The copy may lack some, too. */
char *stage_reason(const struct stage *st, const struct staged_bitmap *s)
{
    char *reason = s->fresh && s->persistent ? disk_break_of(st->disk, s->bits) : NULL;

    for (unsigned k = 0; k < s->origins->len && !reason; k++)
        reason = dirty_bitmap_reason(s->origins->pdata[k]);
    return reason;
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

int stage_check_free(struct dirty_bitmap *db, GError **err)
{
    bool busy;

    pthread_mutex_lock(&db->lock); /* and no dirty_bitmap_info, which counts bits: gates are shut */
    busy = db->busy > 0 || db->changing;
    pthread_mutex_unlock(&db->lock);
    if (busy)
        return fail(err, "Bitmap '%s' is currently in use by another operation and cannot be used",
                    db->name);
    return 0;
}

struct staged_bitmap *stage_find_free(struct stage *st, const char *name, GError **err)
{
    struct staged_bitmap *s = stage_find(st, name, err);

    return s && stage_check_free(s->db, err) == 0 ? s : NULL;
}

int stage_check_good(const struct stage *st, const struct staged_bitmap *s, GError **err)
{
    g_autofree char *reason = stage_reason(st, s);

    if (!reason)
        return 0;
    return fail(err, "Bitmap '%s' is inconsistent and cannot be used: %s", s->db->name, reason);
}

struct staged_bitmap *stage_find_good(struct stage *st, const char *name, GError **err)
{
    struct staged_bitmap *s = stage_find_free(st, name, err);

    return s && stage_check_good(st, s, err) == 0 ? s : NULL;
}

/* ---- trackers ---- */

/* The gate is shut, and nobody is inside: what has waited for that goes. */
static void nobody_inside(struct disk *d)
{
    g_ptr_array_set_size(d->retired_trackers, 0);
    for (unsigned k = d->strays->len; k-- > 0;) {
        struct view *v = d->strays->pdata[k];

        if (!v->empty)
            continue;
        view_unlink(v);
        view_free_later(v);
        g_ptr_array_remove_index(d->strays, k);
    }
}

void stage_swap_tracker(struct stage *st)
{
    struct disk *d = st->disk;
    struct tracker *old = atomic_load_explicit(&d->tracker, memory_order_relaxed);

    atomic_store_explicit(&d->tracker, st->tracker, memory_order_release);
    st->tracker = old;
    nobody_inside(d);
}

static void ignore(void *opaque)
{
}

/* Nobody waits for the writers who are inside. The tracker before is freed at once where there are
 * none, else when the gate is closed the next time. */
void stage_replace_tracker(struct stage *st, struct tracker *tracker)
{
    struct disk *d = st->disk;

    g_ptr_array_add(d->retired_trackers, atomic_exchange(&d->tracker, tracker));
    gate_shut(&d->gate);
    if (gate_drain_start(&d->gate, ignore, NULL))
        nobody_inside(d);
    else
        gate_drain_cancel(&d->gate);
    gate_open(&d->gate);
}
