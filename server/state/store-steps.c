/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-steps.h"

#include "server/state/store-break.h"
#include "server/state/store-names.h"
#include "server/state/store-rows.h"
#include "server/state/stored-bits.h"

struct plan {
    const GArray *changes; /* struct change */
    GPtrArray *steps;      /* struct step */
};

static void free_step(void *opaque)
{
    struct step *step = opaque;

    if (step->new)
        row_free(step->new);
    g_free(step);
}

GPtrArray *steps_new(void)
{
    return g_ptr_array_new_with_free_func(free_step);
}

/* Another change says what becomes of the bitmap of this name that this one removes. */
static bool is_overridden(const struct plan *p, const struct change *removal)
{
    for (unsigned i = 0; i < p->changes->len; i++) {
        const struct change *c = &g_array_index(p->changes, struct change, i);

        if (c != removal && c->c.bits && c->c.persistent && c->c.disk == removal->c.disk &&
            g_str_equal(c->c.bitmap, removal->c.bitmap))
            return true;
    }
    return false;
}

static void set_size(const struct change *c, struct catalogue_bitmap *row)
{
    g_strlcpy(row->uuid, c->sb->uuid, sizeof row->uuid);
    row->granularity = c->c.granularity;
    row->size = c->c.size;
}

/* The row as the change wants it. NULL: there is to be none. */
static struct catalogue_bitmap *wanted_row(const struct change *c,
                                           const struct catalogue_bitmap *old)
{
    struct catalogue_bitmap row = {.disk = c->c.disk->row.id};
    g_autofree char *broken = c->sb ? store_broken(c->sb) : NULL;

    if (!c->c.bits || !c->c.persistent || (!c->sb && !old))
        return NULL;
    if (old) {
        row = row_copy(old);
    } else {
        row.name = g_strdup(c->c.bitmap);
    }
    if (c->sb)
        set_size(c, &row);
    row.recording = c->c.recording;
    row.sealed = false;
    g_free(row.inconsistent);
    row.inconsistent = g_strdup(broken ? broken : c->c.inconsistent);
    return g_memdup2(&row, sizeof row);
}

/* Does a step remove or replace this row? */
static bool has_step(const struct plan *p, const struct catalogue_bitmap *row)
{
    for (unsigned i = 0; i < p->steps->len; i++)
        if (((const struct step *)p->steps->pdata[i])->old == row)
            return true;
    return false;
}

/* Does a good bitmap begin, where there was none of this name? A transient one counts, too: users
 * tell no difference. */
static bool begins_anew(const struct change *c, const struct catalogue_bitmap *old,
                        const struct catalogue_bitmap *new)
{
    if (!c->c.bits || (new ? new->inconsistent : c->c.inconsistent))
        return false;
    return !old || old->inconsistent;
}

/* Nobody takes a bitmap of another image for the one that begins (store-names.h). */
static void add_aside_steps(struct plan *p, const struct change *c)
{
    g_autoptr(GPtrArray) aside = names_aside(c->c.disk);
    g_autofree char *reason = g_strdup_printf("a bitmap of its name has begun anew on another "
                                              "image of disk %s",
                                              c->c.disk->row.name);

    for (unsigned i = 0; i < aside->len; i++) {
        struct catalogue_bitmap *old = rows_find_bitmap(aside->pdata[i], c->c.bitmap), new;
        struct step *step;

        if (!old || old->inconsistent || has_step(p, old))
            continue;
        new = row_copy(old);
        row_set_inconsistent(&new, reason);
        step = g_new0(struct step, 1);
        *step =
            (struct step){.disk = aside->pdata[i], .old = old, .new = g_memdup2(&new, sizeof new)};
        g_ptr_array_add(p->steps, step);
    }
}

static void add_step(struct plan *p, const struct change *c)
{
    struct catalogue_bitmap *old = rows_find_bitmap(c->c.disk, c->c.bitmap);
    struct catalogue_bitmap *new = wanted_row(c, old);
    struct step *step;

    if (begins_anew(c, old, new))
        add_aside_steps(p, c);
    if ((!new && (!old || is_overridden(p, c) || has_step(p, old))) ||
        (new &&old &&row_equal(new, old))) {
        if (new)
            row_free(new);
        return;
    }
    step = g_new0(struct step, 1);
    *step = (struct step){.disk = c->c.disk, .old = old, .new = new, .sb = c->sb};
    g_ptr_array_add(p->steps, step);
}

int steps_plan(GPtrArray *steps, const GArray *changes, GError **err)
{
    struct plan p = {changes, steps};

    for (unsigned i = 0; i < changes->len; i++) {
        const struct change *c = &g_array_index(changes, struct change, i);

        if (change_is_new(c->sb) && !c->c.inconsistent && change_check_new(c, err) < 0)
            return -1;
        add_step(&p, c);
    }
    return 0;
}
