/* SPDX-License-Identifier: BSD-3-Clause */
/* What a simulated server does by command, and what its model does. */
#include "tests/rigs/sim-server-private.h"

#include "server/disk/disk.h"
#include "server/disk/resize.h"
#include "server/disk/view.h"

/* A transaction under way. */
struct sim_command {
    const struct sim_action *actions;
    unsigned n;
    void (*between)(struct sim_server *s, void *opaque);
    void *opaque;
    bool flipped;
};

static bool act(struct sim_model *m, const struct sim_action *a)
{
    switch (a->kind) {
    case SIM_ADD:
        return sim_model_add(m, a->disk, a->bitmap, a->granularity, true, !a->transient);
    case SIM_REMOVE:
        return sim_model_remove(m, a->disk, a->bitmap);
    case SIM_CLEAR:
        return sim_model_clear(m, a->disk, a->bitmap);
    case SIM_ENABLE:
    case SIM_DISABLE:
        return sim_model_record(m, a->disk, a->bitmap, a->kind == SIM_ENABLE);
    case SIM_MERGE:
        return sim_model_merge(m, a->disk, a->bitmap, a->disk, a->source);
    case SIM_PERSIST:
    case SIM_FORGET:
        return sim_model_persist(m, a->disk, a->bitmap, a->kind == SIM_PERSIST);
    case SIM_VIEW:
        return true;
    case SIM_RESIZE:
        sim_model_resize(m, a->disk, a->size);
        return true;
    }
    g_assert_not_reached();
}

static bool act_all(struct sim_model *m, const struct sim_command *c)
{
    for (unsigned k = 0; k < c->n; k++)
        if (!act(m, &c->actions[k]))
            return false;
    return true;
}

void sim_command_flipped(struct sim_server *s)
{
    struct sim_command *c = s->command;

    if (!c || c->flipped)
        return;
    c->flipped = true;
    s->host->after = s->host->model;
    g_assert_true(act_all(&s->host->after, c));
    s->host->either = true;
    if (c->between)
        c->between(s, c->opaque);
}

static int stage(struct sim_server *s, struct instant *i, const struct sim_action *a, GError **err)
{
    struct disk *d = s->disks[a->disk].disk;
    struct view_options options = {.on_error = CBW_BREAK_SNAPSHOT};
    g_autofree char *view = NULL;

    switch (a->kind) {
    case SIM_ADD:
        return instant_bitmap_add(i, d, a->bitmap, a->granularity, true, !a->transient, err);
    case SIM_REMOVE:
        return instant_bitmap_remove(i, d, a->bitmap, err);
    case SIM_CLEAR:
        return instant_bitmap_clear(i, d, a->bitmap, err);
    case SIM_ENABLE:
    case SIM_DISABLE:
        return instant_bitmap_record(i, d, a->bitmap, a->kind == SIM_ENABLE, err);
    case SIM_MERGE:
        return instant_bitmap_merge(i, d, a->bitmap, d, a->source, err);
    case SIM_PERSIST:
    case SIM_FORGET:
        return instant_bitmap_set_persistence(i, d, a->bitmap, a->kind == SIM_PERSIST, err);
    case SIM_VIEW:
        view = g_strdup_printf("view%u", s->views++);
        return instant_view_create(i, d, view, &options, NULL, err);
    case SIM_RESIZE:
        return instant_resize(i, d, a->size, err);
    }
    g_assert_not_reached();
}

static bool stage_all(struct sim_server *s, struct instant *i, const struct sim_command *c,
                      GError **err)
{
    for (unsigned k = 0; k < c->n; k++)
        if (stage(s, i, &c->actions[k], err) < 0)
            return false;
    return true;
}

/* A disk that is going to shrink must have no clients. */
static void close_clients(struct sim_server *s, const struct sim_command *c, bool close)
{
    for (unsigned k = 0; k < c->n; k++) {
        struct attached *a = &s->disks[c->actions[k].disk];

        if (c->actions[k].kind != SIM_RESIZE)
            continue;
        if (close)
            node_io_close(a->io);
        else
            g_assert_cmpint(node_io_open(disk_node(a->disk), true, false, NULL, &a->io, NULL), ==,
                            0);
    }
}

static bool take(struct sim_server *s, struct sim_command *c, GError **err)
{
    struct instant *i = instant_new();
    bool done = stage_all(s, i, c, err);

    if (!done) {
        instant_abort(i);
        return false;
    }
    s->command = c;
    done = instant_commit(i, err) == 0;
    s->command = NULL;
    return done;
}

bool sim_transaction(struct sim_server *s, const struct sim_action *actions, unsigned n,
                     void (*between)(struct sim_server *s, void *opaque), void *opaque,
                     GError **err)
{
    struct sim_command c = {.actions = actions, .n = n, .between = between, .opaque = opaque};
    bool done;

    close_clients(s, &c, true);
    done = take(s, &c, err);
    if (done && s->host->either)
        s->host->model = s->host->after;
    else if (done)
        g_assert_true(act_all(&s->host->model, &c)); /* it had nothing to commit */
    if (done || !s->options.failing)
        s->host->either = false;
    close_clients(s, &c, false);
    return done;
}

void sim_drop_views(struct sim_server *s)
{
    for (unsigned k = 0; k < SIM_DISKS; k++) {
        g_autoptr(GPtrArray) views = disk_views(s->disks[k].disk);

        for (unsigned v = 0; v < views->len; v++)
            g_assert_cmpint(view_delete(views->pdata[v], NULL), ==, 0);
    }
}
