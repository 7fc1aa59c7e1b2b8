/* SPDX-License-Identifier: BSD-3-Clause */
/* Bits that are copied from one bitmap into another, and the shadows meanwhile (see instant.c). */
#include "common/util/error.h"
#include "server/disk/stage.h"

/* So many granules are copied between two looks at whether the copy is still wanted. */
#define PIECE_GRANULES (64u << 10)

/* Do the writes of this source go into the bits already, at least as coarse? */
static bool has_source(const struct staged_bitmap *s, struct source source)
{
    for (unsigned k = 0; k < s->sources->len; k++) {
        struct source have = g_array_index(s->sources, struct source, k);

        if (have.disk == source.disk && have.grain >= source.grain)
            return true;
    }
    return false;
}

static void add_copy(struct instant *i, struct staged_bitmap *s, struct bitmap *from,
                     struct disk *image)
{
    struct copy copy = {
        .to = bitmap_ref(s->bits),
        .from = from ? bitmap_ref(from) : NULL,
        .image = image,
        .frozen = s->frozen ? s : NULL,
        .name = s->db->name,
    };

    g_array_append_val(i->copies, copy);
}

/* Writes of this source go into s->bits until the instant. */
static void add_source(struct instant *i, struct staged_bitmap *s, struct source source)
{
    source.grain = MAX(source.grain, s->db->granularity);
    if (has_source(s, source))
        return;
    mark_array_add(stage_have(i, source.disk)->shadows, bitmap_ref(s->bits), source.grain);
    g_array_append_val(s->sources, source);
}

/* What a guest writes while the image is asked is allocated at the instant. So it goes into the bits
 * even if the bitmap does not record. */
void stage_populate(struct stage *st, struct staged_bitmap *s)
{
    add_source(st->instant, s, (struct source){.disk = st->disk});
    add_copy(st->instant, s, NULL, st->disk);
}

void stage_add_origins(struct staged_bitmap *s, const struct staged_bitmap *of)
{
    for (unsigned k = 0; k < of->origins->len; k++)
        g_ptr_array_add(s->origins, dirty_bitmap_ref(of->origins->pdata[k]));
}

void stage_merge(struct instant *i, struct staged_bitmap *s, struct bitmap *from, GArray *sources)
{
    for (unsigned k = 0; k < sources->len; k++)
        add_source(i, s, g_array_index(sources, struct source, k));
    add_copy(i, s, from, NULL);
}

/* Nobody trusts its bits, and they may be lost, which must not make the instant fail. */
static bool is_hopeless(const struct staged_bitmap *s)
{
    bool hopeless = false;

    for (unsigned k = 0; k < s->origins->len && !hopeless; k++) {
        g_autofree char *reason = dirty_bitmap_reason(s->origins->pdata[k]);

        hopeless = reason != NULL;
    }
    return hopeless;
}

int stage_make_own(struct stage *st, struct staged_bitmap *s, uint64_t size, GError **err)
{
    struct bitmap *bits =
        stage_new_bits(st, s->db->name, s->persistent, size, s->db->granularity, err);
    struct bitmap *old = s->bits;
    g_autoptr(GArray) sources = NULL;

    if (!bits)
        return -1;
    sources = g_steal_pointer(&s->sources);
    s->sources = g_array_new(FALSE, FALSE, sizeof(struct source));
    s->bits = bits;
    s->ours = s->fresh = true;
    if (old && !is_hopeless(s))
        stage_merge(st->instant, s, old, sources);
    bitmap_unref(old);
    return 0;
}

/* ---- the phase of the shadows ---- */

static bool prepare_shadows(struct instant *i)
{
    if (i->copies->len == 0)
        return false;
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];
        const struct tracker *now = st->disk->tracker;
        g_autoptr(GArray) marks = mark_array_new();

        st->closes = st->shadows->len > 0;
        if (!st->closes)
            continue;
        g_array_append_vals(marks, now->marks, now->n);
        g_array_append_vals(marks, st->shadows->data, st->shadows->len);
        st->tracker = tracker_new(marks);
    }
    return true;
}

static int enter_shadows(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        st->shadowed = st->closes;
        if (st->closes)
            stage_swap_tracker(st);
    }
    return 0;
}

static void at_all(struct instant *i, enum disk_point point, bool shadowed)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        if (!shadowed || st->shadowed)
            disk_at(st->disk, point, 0);
    }
}

/* An instant that is cancelled does not wait for the end of a long copy: the next step fails. */
static void copy_by_pieces(struct instant *i, struct copy copy)
{
    uint64_t size = bitmap_size(copy.from);
    uint64_t piece = (uint64_t)bitmap_granularity(copy.from) * PIECE_GRANULES;

    for (uint64_t at = 0, end; at < size && !atomic_load(&i->cancelled); at = end) {
        end = size - at > piece ? at + piece : size;
        bitmap_merge_range(copy.to, copy.from, at, end);
        if (end < size)
            at_all(i, POINT_BITS_COPYING, false);
    }
}

/* Bits that are lost read as clean. A frozen bitmap may be inconsistent: the backup then reads all, and
 * the instant goes on. */
static int check_copied(struct copy copy, GError **err)
{
    if (!(copy.from && bitmap_is_lost(copy.from)) && !bitmap_is_lost(copy.to))
        return 0;
    if (copy.frozen) {
        copy.frozen->lost = true;
        return 0;
    }
    return fail(err, "Bitmap '%s': bits of it were lost with their file while they were copied",
                copy.name);
}

static int copy_one(struct instant *i, struct copy copy, GError **err)
{
    if (copy.from)
        copy_by_pieces(i, copy);
    else
        stage_mark_allocated(i, copy.image, copy.to);
    return check_copied(copy, err);
}

static int copy_bits(struct instant *i, GError **err)
{
    at_all(i, POINT_SHADOWED, true);
    for (unsigned k = 0; k < i->copies->len; k++)
        if (copy_one(i, g_array_index(i->copies, struct copy, k), err) < 0)
            return -1;
    at_all(i, POINT_BITS_COPIED, false);
    return 0;
}

const struct phase phase_shadow = {
    .working = "bits are being copied",
    .prepare = prepare_shadows,
    .flip = enter_shadows,
    .work = copy_bits,
};

/* The bits that writers who are inside still set in the shadows are nobody's. */
void stage_remove_shadows(struct stage *st)
{
    g_autoptr(GArray) recorded = mark_array_new();

    if (!st->shadowed && !(st->instant->flipped && st->flips))
        return;
    disk_add_recorded(st->disk, recorded);
    stage_replace_tracker(st, tracker_new(recorded));
}
