/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How several changes become one instant.
 *
 * Actions do not touch a disk. Each works on a *stage*: what the disk's bitmaps will be, as the
 * actions before it have left them. When all are staged, instant_commit makes the new trackers and
 * lists (the last thing that can fail), closes the gates of all staged disks in name order, swaps
 * pointers, and opens the gates. To abort is to throw the stages away.
 *
 * A merge is the difficult one: target | source has to be right at the instant, yet copying bits
 * takes time, and guests write meanwhile. So the result is a new bitmap, and before the copying
 * begins it is made a *shadow*: the disks whose writes go into the target or the source record into
 * it too. Whatever is written before the instant is then in the copy or came by the shadow, and the
 * instant itself copies nothing. Each staged bitmap knows its *feeds*: the disks whose writes go
 * into its bits before the instant. A bitmap that is staged fresh (added, cleared) has none.
 *
 * A resize uses the same: bitmaps of the new size, shadows while the old bits are copied.
 */
#include "config.h"

#include "server/disk/instant.h"
#include "common/error.h"
#include "server/disk/disk-private.h"

#include <inttypes.h>
#include <string.h>

#define DEFAULT_GRANULARITY 65536u
#define MAX_NAME            1023
/* How long a command waits for writes under way before it gives up. */
#define DRAIN_USEC (30 * G_USEC_PER_SEC)

struct staged_bitmap {
    struct dirty_bitmap *db; /* a reference */
    struct bitmap *bits;     /* a reference: what db->bits will be */
    bool ours;               /* bits were made by this instant, nobody else reads them */
    bool recording;
    GPtrArray *feeds; /* struct disk */
};

struct stage {
    struct disk *disk;
    GPtrArray *bitmaps; /* struct staged_bitmap */
    GPtrArray *shadows; /* struct bitmap, references: recorded into before the instant */
    GPtrArray *views;   /* struct view, ours until linked */
    bool resize;
    uint64_t size;

    struct tracker *tracker; /* prepared: for after the instant */
    GPtrArray *list;         /* prepared: disk->bitmaps after it */
    GPtrArray *garbage;      /* struct bitmap: old bits, let go after the gates are open */
    bool closed;
};

struct instant {
    GPtrArray *stages; /* in name order of their disks */
};

/* ---- stages ---- */

static void staged_bitmap_free(gpointer p)
{
    struct staged_bitmap *s = p;

    dirty_bitmap_unref(s->db);
    bitmap_unref(s->bits);
    g_ptr_array_unref(s->feeds);
    g_free(s);
}

/* Takes over both references. */
static struct staged_bitmap *stage_bitmap(struct stage *st, struct dirty_bitmap *db,
                                          struct bitmap *bits, bool recording)
{
    struct staged_bitmap *s = g_new0(struct staged_bitmap, 1);

    s->db = db;
    s->bits = bits;
    s->recording = recording;
    s->feeds = g_ptr_array_new();
    g_ptr_array_add(st->bitmaps, s);
    return s;
}

static void unref_bitmap(gpointer bits)
{
    bitmap_unref(bits);
}

static void unref_dirty_bitmap(gpointer db)
{
    dirty_bitmap_unref(db);
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

        if (s->recording)
            g_ptr_array_add(s->feeds, d);
    }
    return st;
}

static void stage_free(gpointer p)
{
    struct stage *st = p;

    tracker_free(st->tracker);
    g_ptr_array_unref(st->bitmaps);
    g_ptr_array_unref(st->shadows);
    g_ptr_array_unref(st->views);
    g_ptr_array_unref(st->garbage);
    if (st->list)
        g_ptr_array_unref(st->list);
    if (!atomic_load(&st->disk->newest)) {
        scratch_free(st->disk->scratch);
        st->disk->scratch = NULL;
    }
    g_free(st);
}

static struct stage *stage_of(struct instant *i, struct disk *d)
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

static struct staged_bitmap *find(struct stage *st, const char *name, GError **err)
{
    for (unsigned i = 0; i < st->bitmaps->len; i++) {
        struct staged_bitmap *s = st->bitmaps->pdata[i];

        if (strcmp(s->db->name, name) == 0)
            return s;
    }
    fail(err, "Dirty bitmap '%s' not found", name);
    return NULL;
}

/* Find one that may be changed. */
static struct staged_bitmap *find_free(struct stage *st, const char *name, GError **err)
{
    struct staged_bitmap *s = find(st, name, err);
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

static int add_shadow(struct instant *i, struct disk *d, struct bitmap *bits, GError **err)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    struct stage *st = stage_of(i, d);
    struct tracker *t;

    for (unsigned k = 0; k < d->tracker->n; k++)
        g_ptr_array_add(all, d->tracker->bits[k]);
    g_ptr_array_add(all, bits);
    t = tracker_new(all);
    if (!swap_tracker(d, t, g_get_monotonic_time() + DRAIN_USEC)) {
        tracker_free(t);
        return fail(err, "disk %s: writes under way did not end within 30 s", d->node.name);
    }
    g_ptr_array_add(st->shadows, bitmap_ref(bits));
    return 0;
}

/* Let all of `feeds` record into s->bits from now on. */
static int add_feeds(struct instant *i, struct staged_bitmap *s, GPtrArray *feeds, GError **err)
{
    for (unsigned k = 0; k < feeds->len; k++) {
        if (g_ptr_array_find(s->feeds, feeds->pdata[k], NULL))
            continue;
        if (add_shadow(i, feeds->pdata[k], s->bits, err) < 0)
            return -1;
        g_ptr_array_add(s->feeds, feeds->pdata[k]);
    }
    return 0;
}

/* Give s bits of its own for `size` bytes that hold all the old ones hold, and go on doing so. */
static int make_own(struct instant *i, struct staged_bitmap *s, uint64_t size, GError **err)
{
    g_autoptr(GPtrArray) feeds = g_steal_pointer(&s->feeds);
    struct bitmap *old = s->bits;
    int result;

    s->feeds = g_ptr_array_new();
    s->bits = bitmap_new(size, s->db->granularity, err);
    if (!s->bits) {
        s->bits = old;
        return -1;
    }
    s->ours = true;
    result = add_feeds(i, s, feeds, err);
    if (result == 0)
        bitmap_merge(s->bits, old);
    bitmap_unref(old);
    return result;
}

/* A shadow that cannot be removed, because writes under way do not end, does no harm: it costs a
 * little time a write, until the next tracker comes. */
static void remove_shadows(struct stage *st)
{
    g_autoptr(GPtrArray) recorded = g_ptr_array_new();
    struct tracker *t;

    if (st->shadows->len == 0)
        return;
    for (unsigned i = 0; i < st->disk->bitmaps->len; i++) {
        struct dirty_bitmap *db = st->disk->bitmaps->pdata[i];

        if (db->recording)
            g_ptr_array_add(recorded, db->bits);
    }
    t = tracker_new(recorded);
    if (!swap_tracker(st->disk, t, g_get_monotonic_time() + DRAIN_USEC))
        tracker_free(t);
}

/* ---- actions ---- */

struct instant *instant_new(void)
{
    struct instant *i = g_new0(struct instant, 1);

    i->stages = g_ptr_array_new_with_free_func(stage_free);
    return i;
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
    if (find(st, name, NULL))
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
    struct staged_bitmap *s = find_free(st, name, err);

    if (!s)
        return -1;
    g_ptr_array_remove(st->bitmaps, s);
    return 0;
}

int instant_bitmap_clear(struct instant *i, struct disk *d, const char *name, GError **err)
{
    struct staged_bitmap *s = find_free(stage_of(i, d), name, err);
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
    g_ptr_array_set_size(s->feeds, 0);
    return 0;
}

int instant_bitmap_record(struct instant *i, struct disk *d, const char *name, bool recording,
                          GError **err)
{
    struct staged_bitmap *s = find_free(stage_of(i, d), name, err);

    if (!s)
        return -1;
    s->recording = recording;
    return 0;
}

int instant_bitmap_merge(struct instant *i, struct disk *d, const char *target,
                         struct disk *source_disk, const char *source, GError **err)
{
    struct staged_bitmap *t = find_free(stage_of(i, d), target, err), *s;

    if (!t)
        return -1;
    s = find_free(stage_of(i, source_disk), source, err);
    if (!s)
        return -1;
    if (bitmap_size(t->bits) != bitmap_size(s->bits))
        return fail(err,
                    "Bitmaps are of different sizes (destination size is %" PRIu64
                    ", source size is %" PRIu64 ") and can't be merged",
                    bitmap_size(t->bits), bitmap_size(s->bits));
    if (s == t)
        return 0;
    if (!t->ours && make_own(i, t, bitmap_size(t->bits), err) < 0)
        return -1;
    if (add_feeds(i, t, s->feeds, err) < 0)
        return -1;
    bitmap_merge(t->bits, s->bits);
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
    g_autoptr(GPtrArray) recorded = g_ptr_array_new();

    st->list = g_ptr_array_new_with_free_func(unref_dirty_bitmap);
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        g_ptr_array_add(st->list, dirty_bitmap_ref(s->db));
        if (s->recording)
            g_ptr_array_add(recorded, s->bits);
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

static void flip(struct stage *st)
{
    struct disk *d = st->disk;
    struct tracker *tracker = d->tracker;
    GPtrArray *list;

    d->tracker = st->tracker;
    st->tracker = tracker;
    pthread_mutex_lock(&d->lock);
    list = d->bitmaps;
    d->bitmaps = st->list;
    st->list = list;
    for (unsigned k = 0; k < st->views->len; k++) {
        view_link(st->views->pdata[k]);
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

static void open_gates(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        if (st->closed)
            gate_open(&st->disk->gate);
        st->closed = false;
    }
}

static int close_gates(struct instant *i, GError **err)
{
    gint64 deadline = g_get_monotonic_time() + DRAIN_USEC;

    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        st->closed = gate_close(&st->disk->gate, deadline);
        if (!st->closed) {
            fail(err, "disk %s: writes under way did not end within 30 s", st->disk->node.name);
            open_gates(i);
            return -1;
        }
    }
    return 0;
}

static int resize_closed(struct stage *st, GError **err);

int instant_commit(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        prepare(i->stages->pdata[k]);
    if (close_gates(i, err) < 0) {
        instant_abort(i);
        return -1;
    }
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(((struct stage *)i->stages->pdata[k])->disk, POINT_GATES_CLOSED, 0);
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        /* A resize is an instant of its own, so nothing was flipped yet. */
        if (st->resize && resize_closed(st, err) < 0) {
            open_gates(i);
            instant_abort(i);
            return -1;
        }
        flip(st);
    }
    open_gates(i);
    for (unsigned k = 0; k < i->stages->len; k++)
        g_ptr_array_set_free_func(((struct stage *)i->stages->pdata[k])->views, NULL);
    g_ptr_array_unref(i->stages);
    g_free(i);
    return 0;
}

void instant_abort(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        remove_shadows(i->stages->pdata[k]);
    g_ptr_array_unref(i->stages);
    g_free(i);
}

/* ---- resize ---- */

/* Under the closed gate. A client that opens the disk counts itself in `ios` and then reads the
 * size; we store the size and then look at `ios`: one of the two notices. */
static int resize_closed(struct stage *st, GError **err)
{
    struct disk *d = st->disk;
    uint64_t old = atomic_load(&d->size);

    atomic_store(&d->size, st->size);
    if (st->size < old && atomic_load(&d->ios) > 0) {
        atomic_store(&d->size, old);
        return fail(err, "disk %s: cannot shrink while a client is connected", d->node.name);
    }
    if (d->backend->ops->resize(d->handle, st->size, err) < 0) {
        atomic_store(&d->size, old);
        return -1;
    }
    d->handle->size = st->size;
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        if (s->recording && st->size > old)
            bitmap_set(s->bits, old, st->size - old);
    }
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

int disk_resize(struct disk *d, uint64_t size, GError **err)
{
    struct instant *i;
    struct stage *st;

    if (check_resize(d, size, err) < 0)
        return -1;
    i = instant_new();
    st = stage_of(i, d);
    st->resize = true;
    st->size = size;
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];

        if (make_own(i, s, size, err) < 0) {
            g_prefix_error(err, "disk %s: bitmap %s: ", d->node.name, s->db->name);
            instant_abort(i);
            return -1;
        }
    }
    return instant_commit(i, err);
}
