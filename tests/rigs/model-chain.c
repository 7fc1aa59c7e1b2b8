/* SPDX-License-Identifier: BSD-3-Clause */
/* What backups do: one full copy, then only what is dirty. */
#include "tests/rigs/model.h"

#include <inttypes.h>
#include <string.h>

#define RECORDING "chain"
#define FROZEN    "chain-frozen"

struct chain {
    struct model *model;
    bool started;
    unsigned rounds;
    GByteArray *copies[8];
};

struct chain *chain_new(struct model *m)
{
    struct chain *c = g_new0(struct chain, 1);

    c->model = m;
    for (unsigned i = 0; i < m->n_disks; i++)
        c->copies[i] = g_byte_array_new();
    return c;
}

unsigned chain_rounds(const struct chain *c)
{
    return c->rounds;
}

void chain_free(struct chain *c)
{
    for (unsigned i = 0; i < c->model->n_disks; i++)
        g_byte_array_unref(c->copies[i]);
    g_free(c);
}

/* Grow a copy to what the view has by now. */
static void fit(GByteArray *copy, uint64_t size)
{
    guint old = copy->len;

    g_byte_array_set_size(copy, (guint)size);
    if (size > old)
        memset(copy->data + old, 0, size - old);
}

/* Read [offset, offset + length) of the view into the copy. False: the view is broken. */
static bool pull(struct node_io *io, GByteArray *copy, uint64_t offset, uint64_t length)
{
    return node_read(io, copy->data + offset, (uint32_t)length, offset, 0) == 0;
}

static bool pull_dirty(struct model_disk *d, struct node_io *io, GByteArray *copy)
{
    struct dirty_bitmap *db = disk_find_bitmap(d->disk, FROZEN);
    uint64_t size = node_io_info(io)->size, at = 0;
    struct extents e = EXTENTS_INIT;
    bool good = true;

    if (dirty_bitmap_extents(db, size, 0, false, &e) < 0 || e.total != size)
        model_fail(d->model, d, 0, "disk %u: no extents of %s", d->index, FROZEN);
    for (size_t i = 0; good && i < e.count; i++) {
        if (e.list[i].flags & EXTENT_DIRTY)
            good = pull(io, copy, at, e.list[i].length);
        at += e.list[i].length;
    }
    extents_free(&e);
    dirty_bitmap_unref(db);
    return good;
}

static bool update(struct chain *c, struct model_disk *d, struct view *v)
{
    GByteArray *copy = c->copies[d->index];
    g_autoptr(GByteArray) whole = g_byte_array_new();
    struct node_io *io;
    uint64_t size;
    bool good;

    if (node_io_open(view_node(v), false, false, NULL, &io, NULL) < 0)
        model_fail(c->model, d, 0, "node_io_open failed");
    size = node_io_info(io)->size;
    fit(copy, size);
    fit(whole, size);
    good = c->started ? pull_dirty(d, io, copy) : pull(io, copy, 0, size);
    good = good && pull(io, whole, 0, size);
    node_io_close(io);
    for (uint64_t i = 0; good && memcmp(copy->data, whole->data, size) != 0; i++)
        if (copy->data[i] != whole->data[i])
            model_fail(c->model, d, i,
                       "disk %u, round %u: the copy differs from the view at %" PRIu64, d->index,
                       c->rounds, i);
    return good;
}

static void stage(struct chain *c, struct txn *t, struct model_disk *d)
{
    uint32_t granularity = MAX(4096, d->min_block);

    txn_view(t, d, &(struct view_options){.on_error = CBW_BREAK_SNAPSHOT}, false);
    if (!c->started) {
        txn_add(t, d, RECORDING, granularity, true);
        return;
    }
    txn_add(t, d, FROZEN, granularity, false);
    txn_merge(t, d, FROZEN, d, RECORDING);
    txn_clear(t, d, RECORDING);
}

/* One round over all disks. If a view broke meanwhile the chain ends, the next round is full. */
void chain_step(struct chain *c)
{
    struct model *m = c->model;
    struct txn *t;
    bool good = true;

    for (unsigned i = 0; i < m->n_disks; i++)
        if (m->disks[i].views->len >= MAX_VIEWS)
            model_view_delete(m->disks[i].views->pdata[0]);
    t = txn_new(m);
    for (unsigned i = 0; i < m->n_disks; i++)
        stage(c, t, &m->disks[i]);
    txn_commit(t);
    for (unsigned i = 0; i < m->n_disks; i++) {
        struct model_disk *d = &m->disks[i];
        struct model_view *v = d->views->pdata[d->views->len - 1];

        good = update(c, d, v->view) && good;
        model_catch_up_all(m);
    }
    t = txn_new(m);
    for (unsigned i = 0; i < m->n_disks; i++) {
        if (c->started)
            txn_remove(t, &m->disks[i], FROZEN);
        if (!good)
            txn_remove(t, &m->disks[i], RECORDING);
    }
    txn_commit(t);
    c->started = good;
    c->rounds += good;
}
