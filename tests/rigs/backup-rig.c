/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/backup-rig.h"

#include "common/state/memory.h"
#include "common/util/error.h"
#include "server/registry/registry-private.h"
#include "server/registry/turn.h"
#include "server/state/store.h"
#include "tests/rigs/fake-backend.h"

#include <glib/gstdio.h>
#include <string.h>

/* ---- disks ---- */

static int identity_of(const char *image, struct backend_identity *identity)
{
    *identity = (struct backend_identity){.image = g_strdup(image), .content = g_strdup("c")};
    return 0;
}

static int identity_of_vda(struct backend_handle *h, struct backend_identity *identity,
                           GError **err)
{
    return identity_of("an image", identity);
}

static int identity_of_vdb(struct backend_handle *h, struct backend_identity *identity,
                           GError **err)
{
    return identity_of("another one", identity);
}

static struct disk *add_disk(struct house *h, const char *name)
{
    static struct backend_ops all_ops[2];
    bool is_vdb = strcmp(name, "vdb") == 0;
    struct backend_ops *ops = &all_ops[is_vdb];
    struct backend *b = fake_backend_new(MIB);
    GError *error = NULL;
    struct disk *d;

    *ops = *b->ops;
    ops->identity = is_vdb ? identity_of_vdb : identity_of_vda;
    b->ops = ops;
    d = server_add_disk(h->server, name, b, &error);
    g_assert_no_error(error);
    return d;
}

static void add_disks(struct house *h, const char *disks)
{
    g_auto(GStrv) names = g_strsplit(disks, " ", 0);

    for (unsigned k = 0; names[k]; k++)
        add_disk(h, names[k]);
    h->vda = server_find_disk(h->server, "vda");
    h->vdb = server_find_disk(h->server, "vdb");
}

/* ---- beginning and end ---- */

static void hear(void *opaque, const struct server_event *event)
{
    const char *reason = event->reason ? event->reason : "";
    struct house *h = opaque;

    if (event->kind == EVENT_BACKUP_ENDED)
        g_string_append_printf(h->events, "%s:%s:%.40s;", event->id, event->result, reason);
    else if (event->kind == EVENT_CHECKPOINT_DELETED)
        g_string_append_printf(h->events, "%s:%s;", event->name, reason);
}

void house_build(struct house *h, bool with_store)
{
    GError *error = NULL;

    *h = (struct house){.root = g_dir_make_tmp("backup-XXXXXX", &error)};
    g_assert_no_error(error);
    h->folder = with_store ? g_build_filename(h->root, "state", NULL) : NULL;
    h->shm = g_build_filename(h->root, "shm", NULL);
    h->scratch = g_build_filename(h->root, "scratch", NULL);
    g_mkdir(h->shm, 0700);
    g_mkdir(h->scratch, 0700);
    memory_set_folder(h->shm);
}

void house_start(struct house *h, const char *disks)
{
    const struct store_options store = {.path = h->folder};
    struct server_options options = {.scratch_dir = h->scratch};
    GError *error = NULL;

    if (h->folder) {
        options.store = h->store = store_open(&store, &error);
        g_assert_no_error(error);
    }
    h->server = server_new(&options);
    h->server->gone_ms = EXPORT_GRACE_MS + 100;
    add_disks(h, disks);
    server_start_store(h->server, &error);
    g_assert_no_error(error);
    h->checkpoints = checkpoints_new(h->server);
    h->sessions = NULL;
    h->events = g_string_new(NULL);
    server_add_event_sink(h->server, hear, h);
}

void house_start_sessions(struct house *h)
{
    const struct session_options o = {.lease = 60};
    GError *error = NULL;

    h->sessions = sessions_new(h->server, h->checkpoints, &o);
    sessions_restore(h->sessions, &error);
    g_assert_no_error(error);
}

void house_stop(struct house *h)
{
    if (h->sessions)
        sessions_stop(h->sessions);
    run_main_loop();
    g_assert_true(server_end_changes(h->server, 60000));
    if (h->sessions)
        g_assert_true(sessions_free(h->sessions));
    g_assert_true(checkpoints_free(h->checkpoints));
    g_assert_true(server_free(h->server));
    if (h->store)
        g_assert_true(store_close(h->store));
    g_string_free(h->events, TRUE);
}

void remove_all(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inside = g_build_filename(path, name, NULL);

        remove_all(inside);
    }
    if (dir)
        g_dir_close(dir);
    g_remove(path);
}

void house_clear(struct house *h)
{
    memory_set_folder(NULL);
    remove_all(h->root);
    g_free(h->root);
    g_free(h->folder);
    g_free(h->shm);
    g_free(h->scratch);
}

void house_settle(struct house *h)
{
    while (server_has_turns(h->server))
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
}

/* ---- what there is ---- */

void expect_bitmaps(struct disk *d, const char *expected)
{
    g_autoptr(GPtrArray) all = disk_bitmaps(d);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < all->len; i++) {
        struct dirty_bitmap_info info;

        dirty_bitmap_info(all->pdata[i], &info);
        g_string_append_printf(text, info.readonly ? "%s(%s)%s" : "%s%s%s", i ? " " : "",
                               dirty_bitmap_name(all->pdata[i]), info.busy ? "!" : "");
    }
    g_assert_cmpstr(text->str, ==, expected);
}

/* ---- instants ---- */

char *finish(struct instant *i, int staged, GError *error)
{
    char *why;

    if (staged == 0)
        instant_commit(i, &error);
    else
        instant_abort(i);
    why = error ? g_strdup(error->message) : NULL;
    g_clear_error(&error);
    return why;
}

int refuse(void *opaque, GError **err)
{
    return fail(err, "refused");
}

void spoil_prepare(struct house *h, struct instant *i)
{
    instant_on_prepare(i, refuse, NULL);
}

void at_commit(struct house *h, struct instant *i, char *(*text)(void *opaque), void *opaque)
{
    const struct state_record record = {
        .kind = "test", .name = "x", .text = text, .opaque = opaque};
    GError *error = NULL;

    instant_record(i, h->vda, &record, &error);
    g_assert_no_error(error);
}

static char *too_long(void *opaque)
{
    return g_strnfill(STATE_MAX_RECORD + 1, 'x');
}

void spoil_commit(struct house *h, struct instant *i)
{
    at_commit(h, i, too_long, NULL);
}

static char *given(void *opaque)
{
    return g_strdup(opaque);
}

void put_record(struct house *h, const char *kind, const char *name, const char *text)
{
    const struct state_record record = {
        .kind = kind, .name = name, .text = given, .opaque = (void *)text};
    struct instant *i = instant_new();
    GError *error = NULL;

    instant_record(i, h->vda, &record, &error);
    instant_commit(i, &error);
    g_assert_no_error(error);
}
