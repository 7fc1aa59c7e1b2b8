/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How several changes become one instant. This file has the actions.
 *
 * Actions do not touch a disk. Each works on a *stage*: what the disk's bitmaps will be, as the
 * actions before it have left them. When all are staged, the instant is run (instant-run.c): it
 * makes the new trackers and lists, shuts the gates of all staged disks, and then waits until nobody
 * is inside any of them (the last thing that can fail): a guest's pause is the longest of these
 * waits and not their sum. It swaps pointers, and opens the gates. To abort is to throw the stages
 * away.
 *
 * A merge is the difficult one: target | source has to be right at the instant, yet copying bits
 * takes time, and guests write meanwhile. So the result is a new bitmap, and before the copying
 * begins it is made a *shadow*: the disks that record into the target or the source record into it
 * too. Each write before the instant is then in the copy, or was recorded in the shadow, and the
 * instant itself copies nothing. The actions only note what is to be copied. The run makes all
 * shadows of a disk at once, with one swap of its tracker, and copies then, in the order of the
 * actions. Each staged bitmap knows its *sources*: the disks whose writes go into its bits before
 * the instant. A bitmap that is staged fresh (added, cleared) has none. Where the merged bitmap has
 * the coarser granules, the shadow records all of the granule that a write touches, as the copy
 * would: so the result does not depend on when the write came. Later actions do not change bits from
 * which something is to be copied (`ours`): their bitmap gets a copy of its own first.
 *
 * A resize uses the same: bitmaps of the new size, shadows while the old bits are copied.
 *
 * On a disk with a store, each bitmap that an action changes gets bits of its own, also where only
 * its recording changes. The flip must be undone if the store cannot commit it, and until then
 * writes go into the old bits and the new ones. If both were the same, writes after the flip would be
 * in a bitmap that was disabled at the flip, or that is not enabled after all.
 *
 * A bitmap may become inconsistent at any time. Each staged bitmap knows its *origins*: the bitmaps
 * from whose bits it is made. It is good if all of these are good when it takes effect. One that was
 * added or cleared has none.
 */
#include "common/util/error.h"
#include "server/disk/instant.h"
#include "server/disk/stage.h"

#include <inttypes.h>
#include <string.h>

#define DEFAULT_GRANULARITY 65536u
#define MAX_NAME            1023

static int check_store(const struct disk *d, bool persistent, GError **err)
{
    return persistent && !disk_has_store(d)
               ? fail(err, "disk %s: it has no state folder for persistent bitmaps", d->node.name)
               : 0;
}

static int check_new(struct stage *st, const char *name, uint32_t granularity, GError **err)
{
    if (name[0] == '\0')
        return fail(err, "Bitmap name cannot be empty");
    if (granularity < BITMAP_MIN_GRANULARITY || (granularity & (granularity - 1)))
        return fail(err, "Granularity must be power of 2 and at least 512");
    if (stage_find(st, name, NULL))
        return fail(err, "Bitmap already exists: %s", name);
    if (strlen(name) > MAX_NAME)
        return fail(err, "Bitmap name too long: %s", name);
    return 0;
}

/* NULL: *err. */
static struct staged_bitmap *add_bitmap(struct instant *i, struct disk *d, const char *name,
                                        uint32_t granularity, bool recording, bool persistent,
                                        GError **err)
{
    struct stage *st = stage_of(i, d, err);
    struct staged_bitmap *s;
    struct bitmap *bits;

    if (granularity == 0)
        granularity = DEFAULT_GRANULARITY;
    if (!st || check_store(d, persistent, err) < 0 || check_new(st, name, granularity, err) < 0)
        return NULL;
    bits = stage_new_bits(st, name, persistent, disk_size(d), granularity, err);
    if (!bits)
        return NULL;
    s = stage_bitmap(st, dirty_bitmap_new(name, bitmap_ref(bits), recording), bits, recording);
    s->persistent = persistent;
    s->ours = s->fresh = true;
    return s;
}

int instant_bitmap_add(struct instant *i, struct disk *d, const char *name, uint32_t granularity,
                       bool recording, bool persistent, GError **err)
{
    return add_bitmap(i, d, name, granularity, recording, persistent, err) ? 0 : -1;
}

int instant_checkpoint_bitmap_add(struct instant *i, struct disk *d, const char *name,
                                  uint32_t granularity, bool persistent, GError **err)
{
    struct staged_bitmap *s = add_bitmap(i, d, name, granularity, true, persistent, err);

    if (!s)
        return -1;
    dirty_bitmap_set_readonly(s->db);
    return 0;
}

/* A staged bitmap that a user's action changes. NULL: *err. What is wrong is told in QEMU's order:
 * busy, read-only, inconsistent. */
static struct staged_bitmap *find_to_change(struct instant *i, struct disk *d, const char *name,
                                            bool good, GError **err)
{
    struct stage *st = stage_of(i, d, err);
    struct staged_bitmap *s = st ? stage_find_free(st, name, err) : NULL;

    if (!s)
        return NULL;
    if (s->db->readonly) {
        fail(err, "Bitmap '%s' is readonly and cannot be modified", name);
        return NULL;
    }
    if (good && stage_check_good(st, s, err) < 0)
        return NULL;
    s->changes = true;
    return s;
}

static int remove_bitmap(struct stage *st, struct staged_bitmap *s)
{
    g_ptr_array_add(st->removed, dirty_bitmap_ref(s->db));
    g_ptr_array_remove(st->bitmaps, s);
    return 0;
}

int instant_bitmap_remove(struct instant *i, struct disk *d, const char *name, GError **err)
{
    struct staged_bitmap *s = find_to_change(i, d, name, false, err);

    return s ? remove_bitmap(stage_have(i, d), s) : -1;
}

int instant_checkpoint_bitmap_remove(struct instant *i, struct disk *d, const char *name,
                                     GError **err)
{
    struct stage *st = stage_of(i, d, err);
    struct staged_bitmap *s = st ? stage_find_free(st, name, err) : NULL;

    return s ? remove_bitmap(st, s) : -1;
}

int instant_bitmap_clear(struct instant *i, struct disk *d, const char *name, GError **err)
{
    struct staged_bitmap *s = find_to_change(i, d, name, false, err);

    return s ? stage_clear(stage_have(i, d), s, err) : -1;
}

int instant_bitmap_set_persistence(struct instant *i, struct disk *d, const char *name,
                                   bool persistent, GError **err)
{
    struct staged_bitmap *s = find_to_change(i, d, name, true, err);

    if (!s || check_store(d, persistent, err) < 0)
        return -1;
    if (s->persistent == persistent)
        return 0;
    s->persistent = persistent;
    return stage_make_own(stage_have(i, d), s, bitmap_size(s->bits), err);
}

int instant_bitmap_record(struct instant *i, struct disk *d, const char *name, bool recording,
                          GError **err)
{
    struct staged_bitmap *s = find_to_change(i, d, name, true, err);

    if (!s)
        return -1;
    if (s->recording == recording)
        return 0;
    s->recording = recording;
    if (s->fresh || !disk_has_store(d))
        return 0;
    /* Until the instant is durable, the old bits record as before, and the new ones as then. */
    return stage_make_own(stage_have(i, d), s, bitmap_size(s->bits), err);
}

int instant_bitmap_merge(struct instant *i, struct disk *d, const char *target,
                         struct disk *source_disk, const char *source, GError **err)
{
    struct staged_bitmap *t = find_to_change(i, d, target, true, err), *s;
    struct stage *from = t ? stage_of(i, source_disk, err) : NULL;

    if (!from)
        return -1;
    s = stage_find_good(from, source, err);
    if (!s)
        return -1;
    if (bitmap_size(t->bits) != bitmap_size(s->bits))
        return fail(err,
                    "Bitmaps are of different sizes (destination size is %" PRIu64
                    ", source size is %" PRIu64 ") and can't be merged",
                    bitmap_size(t->bits), bitmap_size(s->bits));
    if (s == t)
        return 0;
    if (!t->ours && stage_make_own(stage_have(i, d), t, bitmap_size(t->bits), err) < 0)
        return -1;
    stage_merge(i, t, s->bits, s->sources);
    stage_add_origins(t, s);
    s->ours = false;
    return 0;
}

int instant_bitmap_populate(struct instant *i, struct disk *d, const char *name, GError **err)
{
    struct staged_bitmap *s = find_to_change(i, d, name, true, err);
    struct stage *st = stage_have(i, d);

    if (!s || (!s->ours && stage_make_own(st, s, bitmap_size(s->bits), err) < 0))
        return -1;
    stage_populate(st, s);
    return 0;
}

int instant_view_create(struct instant *i, struct disk *d, const char *name,
                        const struct view_options *options, struct view **view, GError **err)
{
    struct stage *st = stage_of(i, d, err);
    struct view *v;

    if (!st)
        return -1;
    v = view_new(d, name, options, err);
    if (!v)
        return -1;
    g_ptr_array_add(st->views, v);
    if (view)
        *view = v;
    return 0;
}

static void free_deleted(void *view)
{
    view_free_later(view);
}

/* If the instant fails after its flip, it has left the chain all the same, with no blocks. */
static void stay_broken(void *view)
{
    struct view *v = view;

    if (v->left)
        view_free_later(v);
    else if (atomic_load(&v->state) == VIEW_RETIRING)
        view_break(v, "its deletion was begun and given up");
}

int instant_view_delete(struct instant *i, struct view *v, GError **err)
{
    struct stage *st;

    if (atomic_load(&v->uses) > 0)
        return fail(err, "Node %s is in use", v->node.name);
    st = stage_of(i, v->disk, err);
    if (!st)
        return -1;
    if (g_ptr_array_find(st->leaving, v, NULL))
        return fail(err, "Node %s is deleted already", v->node.name);
    g_ptr_array_add(st->leaving, v);
    instant_on_commit(i, free_deleted, v);
    instant_on_abort(i, stay_broken, v);
    return 0;
}

/* ---- functions of its users ---- */

static void add_hook(GArray *hooks, void (*fn)(void *opaque), void *opaque)
{
    struct hook h = {.fn = fn, .opaque = opaque};

    g_array_append_val(hooks, h);
}

int instant_at_flip(struct instant *i, struct disk *d, void (*fn)(void *opaque), void *opaque,
                    GError **err)
{
    struct stage *st = stage_of(i, d, err);

    if (!st)
        return -1;
    add_hook(st->at_flip, fn, opaque);
    return 0;
}

void instant_on_prepare(struct instant *i, int (*fn)(void *opaque, GError **err), void *opaque)
{
    struct prepare_hook h = {.fn = fn, .opaque = opaque};

    g_array_append_val(i->on_prepare, h);
}

void instant_on_commit(struct instant *i, void (*fn)(void *opaque), void *opaque)
{
    add_hook(i->on_commit, fn, opaque);
}

void instant_on_abort(struct instant *i, void (*fn)(void *opaque), void *opaque)
{
    add_hook(i->on_abort, fn, opaque);
}

void instant_on_end(struct instant *i, void (*fn)(void *opaque), void *opaque)
{
    add_hook(i->on_end, fn, opaque);
}

void instant_quiesce(struct instant *i, int (*freeze)(void *opaque, GError **err),
                     void (*thaw)(void *opaque), void *opaque)
{
    struct quiesce_hook h = {.freeze = freeze, .thaw = thaw, .opaque = opaque};

    g_array_append_val(i->quiesce, h);
}

int instant_record(struct instant *i, struct disk *d, const struct state_record *record,
                   GError **err)
{
    struct state_record copy = *record;

    if (!stage_of(i, d, err))
        return -1;
    if (!disk_has_store(d))
        return 0;
    copy.kind = g_strdup(record->kind);
    copy.name = g_strdup(record->name);
    g_array_append_val(i->records, copy);
    return 0;
}
