/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bits that stand still from the instant on, for a backup to read: a copy of a bitmap's bits, while the
 * bitmap itself goes on to record undisturbed.
 *
 * It is made like a merge into a bitmap that the disk does not have (instant.c): until the flip its
 * bits are a shadow, so that they have each write before the instant. The trackers that the flip puts
 * in place do not know them. So nobody marks them afterwards, also between the flip and the commit to a
 * store.
 */
#include "common/util/error.h"
#include "server/disk/instant.h"
#include "server/disk/stage.h"

#define DEFAULT_GRANULARITY 65536u

static struct staged_bitmap *stage_frozen(struct stage *st, const char *name, uint64_t size,
                                          uint32_t granularity, GError **err)
{
    struct bitmap *bits = stage_new_bits(st, name, false, size, granularity, err);
    struct staged_bitmap *f;
    struct dirty_bitmap *db;

    if (!bits)
        return NULL;
    db = dirty_bitmap_new(name, bitmap_ref(bits), false);
    db->reason = g_strdup("its instant has not come");
    f = staged_bitmap_new(db, bits, false);
    f->frozen = true;
    g_ptr_array_add(st->frozen, f);
    return f;
}

static int freeze_all(struct instant *i, struct stage *st, const struct freeze_options *o,
                      struct dirty_bitmap **frozen, GError **err)
{
    uint32_t granularity = o->granularity ? o->granularity : DEFAULT_GRANULARITY;
    struct staged_bitmap *f = stage_frozen(st, o->name, disk_size(st->disk), granularity, err);

    if (!f)
        return -1;
    stage_fill(i, f);
    *frozen = dirty_bitmap_ref(f->db);
    return 0;
}

/* The source may be busy: nobody changes it. What it is copied from is no longer its own, so that
 * later actions leave these bits alone. */
int instant_freeze(struct instant *i, struct disk *d, const struct freeze_options *o,
                   struct dirty_bitmap **frozen, GError **err)
{
    struct stage *st = stage_of(i, d, err);
    struct staged_bitmap *s, *f;

    if (!st)
        return -1;
    if (!o->source)
        return freeze_all(i, st, o, frozen, err);
    s = stage_find(st, o->source, err);
    if (!s || stage_check_good(st, s, err) < 0)
        return -1;
    f = stage_frozen(st, o->name, bitmap_size(s->bits), s->db->granularity, err);
    if (!f)
        return -1;
    stage_merge(i, f, s->bits, s->sources);
    stage_add_origins(f, s);
    s->ours = false;
    *frozen = dirty_bitmap_ref(f->db);
    return 0;
}

/* What breaks later than the flip was good when it was copied. */
void stage_flip_frozen(struct stage *st)
{
    for (unsigned k = 0; k < st->frozen->len; k++) {
        struct staged_bitmap *f = st->frozen->pdata[k];
        char *reason = stage_reason(st, f);

        if (!reason && f->lost)
            reason = g_strdup("bits were lost with their file while they were copied");
        bitmap_unref(dirty_bitmap_replace(f->db, bitmap_ref(f->bits), false, false, reason));
    }
}
