/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/backup-model.h"

#include "server/registry/commit.h"
#include "server/registry/turn.h"

#include <glib/gstdio.h>
#include <string.h>

static int at_point(void *opaque, enum disk_point point, uint64_t offset)
{
    fuse_burn();
    return 0;
}

/* ---- beginning and end ---- */

static void add_disk(struct life *l, unsigned disk)
{
    g_autofree char *name = g_strdup_printf("disk%u", disk);
    g_autoptr(GError) error = NULL;

    l->disks[disk] = server_add_disk(l->server, name, backup_image_new(l->m, disk), &error);
    g_assert_no_error(error);
    l->disks[disk]->hooks = &l->hooks;
}

static void open_store(struct life *l)
{
    g_autofree char *path = g_build_filename(l->top, "state", NULL);
    const struct store_options o = {.path = path, .power = model_once_in(l->m, 2)};
    g_autoptr(GError) error = NULL;

    l->store = store_open(&o, &error);
    g_assert_no_error(error);
}

void life_begin(struct life *l, struct model *m, const char *top)
{
    const struct session_options options = {.lease = 0};
    g_autofree char *scratch = g_build_filename(top, "scratch", NULL);
    g_autoptr(GError) error = NULL;

    *l = (struct life){.m = m, .top = top, .hooks = {.at = at_point}};
    g_mkdir(scratch, 0700);
    open_store(l);
    l->server = server_new(&(struct server_options){.scratch_dir = scratch, .store = l->store});
    for (unsigned d = 0; d < DISKS; d++)
        add_disk(l, d);
    server_start_store(l->server, &error);
    g_assert_no_error(error);
    l->backup = backup_new(l->server, &options, &error);
    g_assert_no_error(error);
    for (unsigned d = 0; d < DISKS; d++)
        life_open_io(l, d);
    model_lock();
}

void life_end(struct life *l)
{
    model_unlock();
    for (unsigned d = 0; d < DISKS; d++)
        life_close_io(l, d);
    backup_stop(l->backup);
    g_assert_true(server_end_changes(l->server, 60000));
    backup_free(l->backup);
    g_assert_true(server_free(l->server));
    g_assert_true(store_close(l->store));
}

void life_open_io(struct life *l, unsigned disk)
{
    g_autoptr(GError) error = NULL;

    node_io_open(disk_node(l->disks[disk]), true, false, NULL, &l->io[disk], &error);
    g_assert_no_error(error);
}

void life_close_io(struct life *l, unsigned disk)
{
    if (l->io[disk])
        node_io_close(l->io[disk]);
    l->io[disk] = NULL;
}

/* ---- changes ---- */

/* The main thread alone: a source that wakes it when nothing else does. */
static gboolean look_up(gpointer unused)
{
    return G_SOURCE_CONTINUE;
}

void life_wait(struct life *l, const bool *done)
{
    guint timer = g_timeout_add(1, look_up, NULL);

    while (!*done) {
        model_unlock();
        fuse_burn();
        g_main_context_iteration(NULL, TRUE);
        model_lock();
        if (!*done && !l->quiet && model_once_in(l->m, 2))
            guest_step(l);
    }
    g_source_remove(timer);
}

struct change {
    struct life *life;
    int (*stage)(struct life *l, struct instant *i, void *opaque, GError **err);
    void *opaque;
    struct turn *turn;
    bool done;
    GError *error;
};

static void ended(void *opaque, const GError *error)
{
    struct change *c = opaque;

    c->error = error ? g_error_copy(error) : NULL;
    c->done = true;
    if (c->turn)
        turn_end(c->turn);
}

static void begin(void *opaque, struct turn *turn, const GError *error)
{
    struct change *c = opaque;
    struct instant *i;
    GError *refused = NULL;

    c->turn = turn;
    if (!turn) {
        ended(c, error);
        return;
    }
    i = instant_new();
    model_lock();
    int r = c->stage(c->life, i, c->opaque, &refused);
    model_unlock();
    if (r == 0) {
        server_commit(c->life->server, i, ended, c);
        return;
    }
    instant_abort(i);
    ended(c, refused);
    g_error_free(refused);
}

bool life_change(struct life *l, const bool on[DISKS],
                 int (*stage)(struct life *l, struct instant *i, void *opaque, GError **err),
                 void *opaque, GError **error)
{
    struct change c = {.life = l, .stage = stage, .opaque = opaque};
    g_autoptr(GPtrArray) disks = g_ptr_array_new();

    for (unsigned d = 0; d < DISKS; d++)
        if (on[d])
            g_ptr_array_add(disks, l->disks[d]);
    model_unlock();
    server_take_turn(l->server, disks, begin, &c);
    model_lock();
    life_wait(l, &c.done);
    if (!c.error)
        return true;
    g_propagate_error(error, c.error);
    return false;
}
