/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands about users' bitmaps, sizes and checkpoints. */
#include "tests/rigs/backup-model.h"

#include "common/util/error.h"
#include "server/disk/resize.h"

#include <string.h>

static void flip(void *life)
{
    model_flip(((struct life *)life)->m);
}

static int hook_flip(struct life *l, struct instant *i, unsigned disk, GError **err)
{
    return instant_at_flip(i, l->disks[disk], flip, l, err);
}

static char *name_of(char letter, uint32_t serial)
{
    return g_strdup_printf("%c%u", letter, serial);
}

void expect_done(struct life *l, bool expected)
{
    l->expected = expected;
}

void expect_check(struct life *l, bool done, const char *what, const GError *error)
{
    model_check(l->m, done == l->expected || (!done && l->unsure), "%s: %s", what,
                error ? error->message : "it was done, but had to be refused");
    l->m->count.refused += !done;
    l->unsure = false;
}

/* ---- bitmaps of users ---- */

static int stage_bitmap(struct life *l, struct instant *i, void *unused, GError **err)
{
    struct pending *p = &l->m->pending;
    const struct model *m = l->m;
    const struct model_bitmap *b = &m->bitmaps[p->disk][p->slot];
    struct disk *d = l->disks[p->disk];
    g_autofree char *name = name_of('b', p->after.serial);
    g_autofree char *source = p->from_checkpoint
                                  ? name_of('c', m->checkpoints[p->source].serial)
                                  : name_of('b', m->bitmaps[p->disk][p->source].serial);
    int r = 0;

    sessions_look(l);
    expect_done(l, !(p->act == BITMAP_MERGE && p->from_checkpoint &&
                     (!m->checkpoints[p->source].used ||
                      model_is_base(m, m->checkpoints[p->source].serial, p->disk))));
    if (p->act == BITMAP_ADD)
        r = instant_bitmap_add(i, d, name, p->after.granularity, p->after.recording,
                               p->after.persistent, err);
    else if (p->act == BITMAP_REMOVE)
        r = instant_bitmap_remove(i, d, name, err);
    else if (p->act == BITMAP_CLEAR)
        r = instant_bitmap_clear(i, d, name, err);
    else if (p->act == BITMAP_RECORD)
        r = instant_bitmap_record(i, d, name, p->after.recording, err);
    else if (p->act == BITMAP_MERGE)
        r = instant_bitmap_merge(i, d, name, d, source, err);
    else
        r = instant_bitmap_populate(i, d, name, err);
    g_assert(b->used || p->act == BITMAP_ADD);
    return r < 0 ? r : hook_flip(l, i, p->disk, err);
}

/* From what a merge is; false: there is nothing. */
static bool choose_source(struct model *m, struct pending *p)
{
    p->from_checkpoint = model_once_in(m, 2);
    p->source = model_below(m, p->from_checkpoint ? CHECKPOINTS : BITMAPS);
    if (!p->from_checkpoint)
        return m->bitmaps[p->disk][p->source].used && p->source != p->slot;
    return m->checkpoints[p->source].used && m->checkpoints[p->source].on[p->disk];
}

static void plan_bitmap(struct model *m, struct pending *p)
{
    struct model_bitmap *b = &m->bitmaps[p->disk][p->slot];

    p->after = *b;
    p->act = b->used ? BITMAP_REMOVE + model_below(m, 5) : BITMAP_ADD;
    if (p->act == BITMAP_MERGE && !choose_source(m, p))
        p->act = BITMAP_CLEAR;
    p->after.used = p->act != BITMAP_REMOVE;
    if (p->act == BITMAP_RECORD)
        p->after.recording = !b->recording;
    if (p->act == BITMAP_ADD)
        p->after = (struct model_bitmap){.used = true,
                                         .serial = ++m->serials,
                                         .recording = !model_once_in(m, 4),
                                         .persistent = !model_once_in(m, 4),
                                         .granularity = 4096u << model_below(m, 5)};
}

void bitmap_step(struct life *l)
{
    struct model *m = l->m;
    struct pending *p = &m->pending;
    bool on[DISKS] = {false}, done;
    g_autoptr(GError) error = NULL;

    *p = (struct pending){.disk = model_below(m, DISKS), .slot = model_below(m, BITMAPS)};
    plan_bitmap(m, p);
    on[p->disk] = true;
    p->kind = PENDING_BITMAP;
    l->quiet = p->act == BITMAP_POPULATE;
    done = life_change(l, on, stage_bitmap, NULL, &error);
    l->quiet = false;
    expect_check(l, done, "a bitmap", error);
    if (done)
        m->bitmaps[p->disk][p->slot] = p->after;
    p->kind = PENDING_NOTHING;
}

/* ---- sizes ---- */

static bool has_view(const struct model *m, unsigned disk)
{
    for (unsigned i = 0; i < SESSIONS; i++)
        if (m->sessions[i].used && m->sessions[i].disks[disk].used)
            return true;
    return false;
}

static int stage_resize(struct life *l, struct instant *i, void *unused, GError **err)
{
    const struct pending *p = &l->m->pending;

    sessions_look(l);
    expect_done(l, p->sectors >= l->m->now[p->disk].sectors || !has_view(l->m, p->disk));
    return instant_resize(i, l->disks[p->disk], (uint64_t)p->sectors * SECTOR, err);
}

#define LEAST_SECTORS 1024u

/* A shrunken disk ends with a granule of the coarsest kind: of one that is cut in two, the bits say
 * nothing about which half was changed. */
void resize_step(struct life *l)
{
    struct model *m = l->m;
    unsigned disk = model_below(m, DISKS);
    uint32_t old = m->now[disk].sectors;
    uint32_t larger = old + 1 + model_below(m, 500), smaller = old - model_below(m, old / 2);
    uint32_t sectors = model_once_in(m, 2) ? MIN(SECTORS, larger)
                                           : MAX(LEAST_SECTORS, smaller) & ~(COARSEST / SECTOR - 1);
    bool on[DISKS] = {false}, done;
    g_autoptr(GError) error = NULL;

    on[disk] = true;
    m->pending = (struct pending){.kind = PENDING_RESIZE, .disk = disk, .sectors = sectors};
    life_close_io(l, disk);
    done = life_change(l, on, stage_resize, NULL, &error);
    expect_check(l, done, "resize", error);
    if (done)
        model_resized(m, disk, sectors);
    m->pending.kind = PENDING_NOTHING;
    life_open_io(l, disk);
}

/* ---- checkpoints ---- */

static int stage_create(struct life *l, struct instant *i, void *unused, GError **err)
{
    const struct model_checkpoint *c = &l->m->checkpoints[l->m->pending.slot];
    g_autofree char *name = name_of('c', c->serial);
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    const struct checkpoint_options o = {
        .name = name, .disks = disks, .granularity = c->granularity};
    unsigned first = DISKS;

    expect_done(l, true);
    for (unsigned d = DISKS; d-- > 0;)
        if (c->on[d])
            g_ptr_array_add(disks, l->disks[first = d]);
    if (checkpoint_stage_create(l->backup->checkpoints, i, &o, err) < 0)
        return -1;
    return hook_flip(l, i, first, err);
}

static void choose_disks(struct model *m, bool on[DISKS])
{
    unsigned mask = 1 + model_below(m, (1u << DISKS) - 1);

    for (unsigned d = 0; d < DISKS; d++)
        on[d] = model_once_in(m, 2) || (mask & (1u << d));
}

static void create(struct life *l, unsigned slot)
{
    struct model *m = l->m;
    struct model_checkpoint *c = &m->checkpoints[slot];
    g_autoptr(GError) error = NULL;
    bool done;

    c->serial = ++m->serials;
    c->pending = false;
    c->granularity = 4096u << model_below(m, 5);
    choose_disks(m, c->on);
    m->pending = (struct pending){.kind = PENDING_CREATE, .slot = slot};
    done = life_change(l, c->on, stage_create, NULL, &error);
    expect_check(l, done, "create a checkpoint", error);
    c->used = true;
    m->pending.kind = PENDING_NOTHING;
}

static int stage_delete(struct life *l, struct instant *i, void *unused, GError **err)
{
    const struct model_checkpoint *c = &l->m->checkpoints[l->m->pending.slot];
    g_autofree char *name = name_of('c', c->serial);

    sessions_look(l);
    expect_done(l, c->used && !c->pending && !model_is_base(l->m, c->serial, DISKS));
    return checkpoint_stage_delete(l->backup->checkpoints, i, name, NULL, "the model's", err);
}

static void delete (struct life *l, unsigned slot)
{
    struct model *m = l->m;
    struct model_checkpoint *c = &m->checkpoints[slot];
    bool done;
    g_autoptr(GError) error = NULL;

    m->pending = (struct pending){.kind = PENDING_DELETE, .slot = slot};
    done = life_change(l, c->on, stage_delete, NULL, &error);
    expect_check(l, done, "delete a checkpoint", error);
    if (done)
        c->used = false;
    m->pending.kind = PENDING_NOTHING;
}

void checkpoint_step(struct life *l)
{
    unsigned slot = model_below(l->m, CHECKPOINTS);

    if (l->m->checkpoints[slot].used)
        delete (l, slot);
    else
        create(l, slot);
}
