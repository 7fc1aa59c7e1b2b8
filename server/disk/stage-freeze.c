/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bits that stand still from the instant on, for a backup to read. They are a copy of a bitmap's bits;
 * the bitmap itself goes on to record undisturbed.
 *
 * The copy is made as a merge is (instant.c), into a bitmap that the disk does not have. Its bits are a
 * shadow until the flip, so that they have each write before the instant. The trackers that the flip
 * puts in place do not have them. So nobody marks them after the flip, also not between the flip and
 * the commit to a store.
 */
#include "common/util/error.h"
#include "server/disk/instant.h"
#include "server/disk/stage.h"

#define DEFAULT_GRANULARITY 65536u

/* Takes over both references. */
static struct staged_bitmap *add_frozen(struct stage *st, struct dirty_bitmap *db,
                                        struct bitmap *bits)
{
    struct staged_bitmap *f = staged_bitmap_new(db, bits, false);

    db->reason = g_strdup("its instant has not come");
    f->frozen = true;
    g_ptr_array_add(st->frozen, f);
    return f;
}

/* No bits are set: a full backup of a huge disk begins as quickly as any other. */
static void freeze_all(struct stage *st, const struct freeze_options *o,
                       struct dirty_bitmap **frozen)
{
    uint32_t granularity = o->granularity ? o->granularity : DEFAULT_GRANULARITY;
    struct dirty_bitmap *db = dirty_bitmap_new_full(o->name, disk_size(st->disk), granularity);

    add_frozen(st, db, NULL);
    *frozen = dirty_bitmap_ref(db);
}

/* The source may be busy, because it is not changed. Its bits are not its own any more: later actions
 * give it others, so that the copy does not get what they add. */
int instant_freeze(struct instant *i, struct disk *d, const struct freeze_options *o,
                   struct dirty_bitmap **frozen, GError **err)
{
    struct stage *st = stage_of(i, d, err);
    struct staged_bitmap *s, *f;
    struct bitmap *bits;

    if (!st)
        return -1;
    if (!o->source) {
        freeze_all(st, o, frozen);
        return 0;
    }
    s = stage_find(st, o->source, err);
    if (!s || stage_check_good(st, s, err) < 0)
        return -1;
    bits = stage_new_bits(st, o->name, false, bitmap_size(s->bits), s->db->granularity, err);
    if (!bits)
        return -1;
    f = add_frozen(st, dirty_bitmap_new(o->name, bitmap_ref(bits), false), bits);
    stage_merge(i, f, s->bits, s->sources);
    stage_add_origins(f, s);
    f->needed = g_strdup(o->needed);
    s->ours = false;
    *frozen = dirty_bitmap_ref(f->db);
    return 0;
}

/* Nobody writes any more: all that is dirty has been copied, or was marked in the shadow. So a bitmap
 * that breaks later was good when its bits were copied. */
int stage_ask_frozen(struct stage *st, GError **err)
{
    for (unsigned k = 0; k < st->frozen->len; k++) {
        struct staged_bitmap *f = st->frozen->pdata[k];

        f->reason = stage_reason(st, f);
        if (!f->reason && f->lost)
            f->reason = g_strdup("bits were lost with their file while they were copied");
        if (f->reason && f->needed)
            return fail(err, "%s: %s", f->needed, f->reason);
    }
    return 0;
}

void stage_flip_frozen(struct stage *st)
{
    for (unsigned k = 0; k < st->frozen->len; k++) {
        struct staged_bitmap *f = st->frozen->pdata[k];

        bitmap_unref(dirty_bitmap_replace(f->db, g_steal_pointer(&f->bits), false, false,
                                          g_steal_pointer(&f->reason)));
    }
}
