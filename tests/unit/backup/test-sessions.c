/* SPDX-License-Identifier: BSD-3-Clause */
/* Sessions without QMP: beginnings and decisions that fail at each step, clients that hang, what a start
 * finds. */
#include "common/state/memory.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/backup/session-private.h"
#include "server/disk/disk-private.h"
#include "server/registry/registry-private.h"
#include "server/registry/turn.h"
#include "server/state/store.h"
#include "tests/rigs/fake-backend.h"
#include "tests/rigs/main-loop.h"

#include <glib/gstdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

struct house {
    char *root, *folder, *shm, *scratch; /* of all, of the state, of memory, of scratch */
    struct store *store;
    struct server *server;
    struct checkpoints *checkpoints;
    struct sessions *sessions;
    struct disk *vda, *vdb;
    GString *events; /* ID:RESULT:REASON; for each session that has ended */
};

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

static void hear(void *opaque, const struct server_event *event)
{
    struct house *h = opaque;

    if (event->kind == EVENT_BACKUP_ENDED)
        g_string_append_printf(h->events, "%s:%s:%.40s;", event->id, event->result,
                               event->reason ? event->reason : "");
}

static void start(struct house *h, const char *scratch)
{
    const struct store_options store = {.path = h->folder};
    struct server_options options = {.scratch_dir = scratch};
    const struct session_options o = {.lease = 60};
    GError *error = NULL;

    options.store = h->store = store_open(&store, &error);
    g_assert_no_error(error);
    h->server = server_new(&options);
    h->server->gone_ms = EXPORT_GRACE_MS + 100;
    h->vda = add_disk(h, "vda");
    h->vdb = add_disk(h, "vdb");
    server_start_store(h->server, &error);
    g_assert_no_error(error);
    h->checkpoints = checkpoints_new(h->server);
    h->sessions = sessions_new(h->server, h->checkpoints, &o);
    sessions_restore(h->sessions, &error);
    g_assert_no_error(error);
    h->events = g_string_new(NULL);
    server_add_event_sink(h->server, hear, h);
}

static void stop(struct house *h)
{
    sessions_stop(h->sessions);
    run_main_loop();
    g_assert_true(server_end_changes(h->server, 60000));
    g_assert_true(sessions_free(h->sessions));
    g_assert_true(checkpoints_free(h->checkpoints));
    g_assert_true(server_free(h->server));
    g_assert_true(store_close(h->store));
    g_string_free(h->events, TRUE);
}

static void house_begin(struct house *h)
{
    GError *error = NULL;

    memset(h, 0, sizeof *h);
    h->root = g_dir_make_tmp("sessions-XXXXXX", &error);
    g_assert_no_error(error);
    h->folder = g_build_filename(h->root, "state", NULL);
    h->shm = g_build_filename(h->root, "shm", NULL);
    h->scratch = g_build_filename(h->root, "scratch", NULL);
    g_mkdir(h->shm, 0700);
    g_mkdir(h->scratch, 0700);
    memory_set_folder(h->shm);
    start(h, h->scratch);
}

static void restart(struct house *h)
{
    stop(h);
    start(h, h->scratch);
}

static void remove_all(const char *path)
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

static void house_end(struct house *h)
{
    stop(h);
    memory_set_folder(NULL);
    remove_all(h->root);
    g_free(h->root);
    g_free(h->folder);
    g_free(h->shm);
    g_free(h->scratch);
}

/* ---- what tests do ---- */

struct wish {
    const char *id, *since, *checkpoint, *export; /* the last one: of vdb */
    bool strict;
    void (*spoil)(struct house *h, struct instant *i); /* NULL: nothing fails on purpose */
};

/* NULL, or why it failed. */
static char *begin(struct house *h, const struct wish *w)
{
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct session_request_disk));
    const struct session_request_disk vda = {.disk = h->vda};
    const struct session_request_disk vdb = {.disk = h->vdb, .export = w->export};
    const struct session_request r = {
        .id = w->id,
        .since = w->since,
        .checkpoint = w->checkpoint,
        .disks = disks,
        .strict = w->strict,
        .alone = true,
        .lease = -1,
    };
    struct instant *i = instant_new();
    struct session *n;
    GError *error = NULL;
    char *why;

    g_array_append_val(disks, vda);
    g_array_append_val(disks, vdb);
    if (session_stage_begin(h->sessions, i, &r, &n, &error) < 0) {
        instant_abort(i);
    } else {
        if (w->spoil)
            w->spoil(h, i);
        instant_commit(i, &error);
    }
    why = error ? g_strdup(error->message) : NULL;
    g_clear_error(&error);
    return why;
}

struct answer {
    bool done;
    char *why;
};

static void answered(void *opaque, const GError *error)
{
    struct answer *a = opaque;

    a->done = true;
    a->why = error ? g_strdup(error->message) : NULL;
}

/* NULL, or why it failed. */
static char *end(struct house *h, const char *id, bool commit, const char *reason)
{
    struct answer a = {.done = false};
    GError *error = NULL;
    struct session *n = session_find(h->sessions, id, &error);

    g_assert_no_error(error);
    session_end(n, commit, reason, answered, &a);
    while (!a.done)
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
    return a.why;
}

#define expect(call, text)                                                                         \
    do {                                                                                           \
        g_autofree char *got = (call);                                                             \
        g_assert_cmpstr(got, ==, text);                                                            \
    } while (0)

static const char *state_of(struct house *h, const char *id)
{
    static const char *const states[] = {[SESSION_ACTIVE] = "active",
                                         [SESSION_COMMITTED] = "committed",
                                         [SESSION_ABORTED] = "aborted"};
    g_autoptr(GArray) list = sessions_list(h->sessions);

    for (unsigned i = 0; i < list->len; i++)
        if (strcmp(g_array_index(list, struct session_info, i).id, id) == 0)
            return states[g_array_index(list, struct session_info, i).state];
    return NULL;
}

static unsigned count_views(struct house *h)
{
    g_autoptr(GPtrArray) views = server_views(h->server);

    return views->len;
}

static unsigned count_exports(struct house *h)
{
    g_autoptr(GArray) exports = server_exports(h->server);

    return exports->len;
}

/* The bitmaps of both disks, with ! for one that is busy. */
static void expect_bitmaps(struct house *h, const char *expected)
{
    struct disk *disks[] = {h->vda, h->vdb};

    for (unsigned k = 0; k < G_N_ELEMENTS(disks); k++) {
        g_autoptr(GPtrArray) all = disk_bitmaps(disks[k]);
        g_autoptr(GString) text = g_string_new(NULL);

        for (guint i = 0; i < all->len; i++) {
            struct dirty_bitmap_info info;

            dirty_bitmap_info(all->pdata[i], &info);
            g_string_append_printf(text, "%s%s ", dirty_bitmap_name(all->pdata[i]),
                                   info.busy ? "!" : "");
        }
        g_assert_cmpstr(text->str, ==, expected);
    }
}

/* ---- beginnings that fail ---- */

static int refuse(void *opaque, GError **err)
{
    return fail(err, "refused");
}

static void spoil_prepare(struct house *h, struct instant *i)
{
    instant_on_prepare(i, refuse, NULL);
}

static char *too_long(void *opaque)
{
    return g_strnfill(STATE_MAX_RECORD + 1, 'x');
}

/* After the flip. */
static void spoil_commit(struct house *h, struct instant *i)
{
    const struct state_record record = {.kind = "test", .name = "x", .text = too_long};
    GError *error = NULL;

    instant_record(i, h->vda, &record, &error);
    g_assert_no_error(error);
}

static void thawed(void *opaque)
{
}

static void spoil_freeze(struct house *h, struct instant *i)
{
    instant_quiesce(i, refuse, thawed, NULL);
}

static int break_bitmaps(void *opaque, GError **err)
{
    disk_bitmaps_broken(((struct house *)opaque)->vda, NULL, "it broke");
    return 0;
}

/* What the disk has recorded so far is lost, after all checks of the beginning. */
static void spoil_base(struct house *h, struct instant *i)
{
    instant_on_prepare(i, break_bitmaps, h);
}

/* Nothing is left: the same session can begin then, and leaves nothing either. */
static void check_nothing_left(struct house *h)
{
    const struct wish good = {.id = "good", .since = "old", .checkpoint = "new", .export = "e"};

    run_main_loop();
    g_assert_null(state_of(h, "b"));
    g_assert_cmpuint(count_views(h) + count_exports(h), ==, 0);
    g_assert_cmpuint(g_hash_table_size(h->server->reserved), ==, 0);
    expect_bitmaps(h, "old ");
    expect(begin(h, &good), NULL);
    g_assert_cmpuint(count_views(h) + count_exports(h), ==, 4);
    expect_bitmaps(h, "old! new ");
    expect(end(h, "good", false, NULL), NULL);
    g_assert_cmpuint(count_views(h) + count_exports(h), ==, 0);
    expect_bitmaps(h, "old ");
}

static void make_old(struct house *h)
{
    const struct wish first = {.id = "first", .checkpoint = "old"};

    expect(begin(h, &first), NULL);
    expect(end(h, "first", true, NULL), NULL);
}

/* Each fails at another step. */
static void test_begin_fails(void)
{
    static const struct wish wishes[] = {
        {.id = "1"},
        {.id = "b", .export = "vda", .checkpoint = "new"},
        {.id = "b", .export = "b/vda", .checkpoint = "new"},
        {.id = "b", .since = "none", .strict = true, .checkpoint = "new"},
        {.id = "b", .since = "old", .checkpoint = "old"},
        {.id = "b", .since = "old", .checkpoint = "new", .spoil = spoil_prepare},
        {.id = "b", .since = "old", .checkpoint = "new", .spoil = spoil_freeze},
        {.id = "b", .since = "old", .checkpoint = "new", .spoil = spoil_commit},
    };
    struct house h;

    house_begin(&h);
    make_old(&h);
    for (unsigned k = 0; k < G_N_ELEMENTS(wishes); k++) {
        g_autofree char *why = NULL;

        g_test_message("%u", k);
        why = begin(&h, &wishes[k]);
        g_assert_nonnull(why);
        check_nothing_left(&h);
    }
    house_end(&h);
}

static void test_no_scratch(void)
{
    const struct wish w = {.id = "b", .checkpoint = "new"};
    g_autofree char *why = NULL;
    struct house h;

    house_begin(&h);
    stop(&h);
    start(&h, "/nonexistent");
    why = begin(&h, &w);
    g_assert_nonnull(strstr(why, "scratch"));
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    g_assert_cmpuint(g_hash_table_size(h.server->reserved), ==, 0);
    expect_bitmaps(&h, "");
    g_assert_null(state_of(&h, "b"));
    house_end(&h);
}

/* What clients of an export are told: all is dirty. */
static void expect_all_dirty(struct house *h, const char *name)
{
    struct export *e = server_find_export(h->server, EXPORTS_LIVE, name);
    g_autoptr(GPtrArray) bitmaps = export_bitmaps(e);
    struct dirty_bitmap_info info;

    g_assert_cmpuint(bitmaps->len, ==, 1);
    dirty_bitmap_info(bitmaps->pdata[0], &info);
    g_assert_false(info.inconsistent);
    g_assert_cmpuint(info.count, ==, MIB);
    export_unref(e);
}

static void expect_broken_base(struct house *h)
{
    const struct session_disk_info *vda;
    struct session_info info;

    session_info(session_find(h->sessions, "b", NULL), &info);
    vda = &g_array_index(info.disks, struct session_disk_info, 0);
    g_assert_false(vda[0].incremental);
    g_assert_cmpstr(vda[0].reason, ==, "it broke");
    g_assert_cmpuint(vda[0].dirty_bytes, ==, MIB);
    expect_all_dirty(h, "b/vda");
    g_assert_true(vda[1].incremental);
    g_assert_cmpuint(vda[1].dirty_bytes, ==, 0);
    session_info_clear(&info);
}

/* The base breaks when all has been checked. */
static void test_base_breaks(void)
{
    struct wish w = {.id = "b", .since = "old", .spoil = spoil_base};
    GError *error = NULL;
    struct house h;

    for (int strict = 0; strict < 2; strict++) {
        w.strict = strict;
        house_begin(&h);
        make_old(&h);
        expect(begin(&h, &w), NULL);
        if (strict) {
            while (server_has_turns(h.server))
                g_main_context_iteration(NULL, TRUE);
            g_assert_null(session_find(h.sessions, "b", &error));
            g_assert_cmpstr(error->message, ==,
                            "Backup session 'b' was aborted: disk vda: no backup since checkpoint "
                            "'old' is possible: it broke");
            g_clear_error(&error);
        } else {
            expect_broken_base(&h);
            restart(&h); /* its record says the same */
            expect_broken_base(&h);
        }
        house_end(&h);
    }
}

/* ---- decisions that fail ---- */

static void test_end_fails(void)
{
    const struct wish w = {.id = "b", .since = "old", .checkpoint = "new"};
    g_autofree char *reason = g_strnfill(STATE_MAX_RECORD, 'x'), *why = NULL;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    why = end(&h, "b", false, reason); /* the store does not take so long a record */
    g_assert_nonnull(why);
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 4);
    expect_bitmaps(&h, "old! new ");
    g_assert_cmpstr(h.events->str, ==, "first:commit:;");
    expect(end(&h, "b", true, NULL), NULL);
    expect_bitmaps(&h, "old new ");
    g_assert_cmpstr(h.events->str, ==, "first:commit:;b:commit:;");
    restart(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, "committed");
    expect_bitmaps(&h, "old new ");
    house_end(&h);
}

/* The server's own abort is tried again. Nobody commits such a session meanwhile. */
static void test_doom_fails(void)
{
    const struct wish w = {.id = "b", .checkpoint = "new"};
    g_autofree char *reason = g_strnfill(STATE_MAX_RECORD, 'x'), *why = NULL;
    struct house h;

    house_begin(&h);
    expect(begin(&h, &w), NULL);
    log_set_target(LOG_TO_NULL); /* the reason is long */
    sessions_abort_all(h.sessions, reason);
    while (server_has_turns(h.server))
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    why = end(&h, "b", true, NULL);
    g_assert_true(g_str_has_prefix(why, "Backup session 'b' is being aborted: xxx"));
    for (int delay = 10; delay < 1000; delay *= 2) {
        struct session *n = h.sessions->list->pdata[0];

        g_clear_handle_id(&n->lease_timer, g_source_remove);
        g_assert_cmpint(next_timer(), <=, MIN(delay, 600) * 1000 + 1000);
        g_assert_cmpint(next_timer(), >, MIN(delay, 600) * 1000 - 10000);
        g_clear_handle_id(&n->retry_timer, g_source_remove); /* as if it had come */
        session_pursue_doom(n);
        while (server_has_turns(h.server))
            g_main_context_iteration(NULL, TRUE);
        run_main_loop();
    }
    log_set_target(LOG_TO_STDERR);
    house_end(&h);
}

static int stop_listeners(void *opaque, GError **err)
{
    sessions_abort_all(opaque, "no listener");
    return 0;
}

static void spoil_listeners(struct house *h, struct instant *i)
{
    instant_on_prepare(i, stop_listeners, h->sessions); /* on this thread: the test waits for it */
}

/* What aborts all sessions also aborts one that is about to begin. */
static void test_doom_comes_early(void)
{
    const struct wish w = {.id = "b", .checkpoint = "new", .spoil = spoil_listeners};
    struct house h;

    house_begin(&h);
    expect(begin(&h, &w), NULL);
    while (server_has_turns(h.server))
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
    g_assert_cmpstr(h.events->str, ==, "b:abort:no listener;");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    expect_bitmaps(&h, "");
    house_end(&h);
}

/* After the flip, while the state folder commits. */
static char *break_view(void *opaque)
{
    const struct house *h = opaque;
    const struct session *n = h->sessions->list->pdata[h->sessions->list->len - 1];

    view_break(n->disks[1].view, "no space");
    return g_strdup("x");
}

static void spoil_view(struct house *h, struct instant *i)
{
    const struct state_record record = {
        .kind = "test", .name = "x", .text = break_view, .opaque = h};
    GError *error = NULL;

    instant_record(i, h->vda, &record, &error);
    g_assert_no_error(error);
}

/* A view breaks before its session has begun. An older session of that id has ended. */
static void test_view_breaks_early(void)
{
    const struct wish earlier = {.id = "b"};
    const struct wish w = {.id = "b", .checkpoint = "new", .spoil = spoil_view};
    struct house h;

    house_begin(&h);
    expect(begin(&h, &earlier), NULL);
    expect(end(&h, "b", true, NULL), NULL);
    expect(begin(&h, &w), NULL);
    while (server_has_turns(h.server))
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
    g_assert_cmpstr(h.events->str, ==,
                    "b:commit:;b:abort:its view of disk vdb is broken: no space;");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    expect_bitmaps(&h, "");
    house_end(&h);
}

/* Stage a session of one disk. */
static void stage_one(struct house *h, struct instant *i, const char *id, struct disk *d,
                      GError **err)
{
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct session_request_disk));
    const struct session_request_disk disk = {.disk = d};
    const struct session_request r = {.id = id, .disks = disks, .alone = true, .lease = -1};
    struct session *n;

    g_array_append_val(disks, disk);
    session_stage_begin(h->sessions, i, &r, &n, err);
}

static void begin_one(struct house *h, const char *id, struct disk *d)
{
    struct instant *i = instant_new();
    GError *error = NULL;

    stage_one(h, i, id, d, &error);
    g_assert_no_error(error);
    instant_commit(i, &error);
    g_assert_no_error(error);
}

/* How the list ends. */
static void expect_order(struct house *h, const char *expected)
{
    g_autoptr(GArray) list = sessions_list(h->sessions);
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < list->len; i++)
        g_string_append_printf(text, "%s ", g_array_index(list, struct session_info, i).id);
    g_assert_true(g_str_has_suffix(text->str, expected));
}

/* The id of the oldest session that is listed begins anew while it would make room for another one. */
static void test_id_again(void)
{
    struct instant *i = instant_new(), *none = instant_new();
    GError *error = NULL;
    struct answer a = {.done = false};
    struct house h;

    house_begin(&h);
    for (unsigned k = 0; k < SESSIONS_MOST_ENDED; k++) {
        g_autofree char *id = g_strdup_printf("s%u", k);

        begin_one(&h, id, h.vdb);
        expect(end(&h, id, true, NULL), NULL);
    }
    begin_one(&h, "last", h.vdb);
    stage_one(&h, i, "s0", h.vda, &error);
    g_assert_no_error(error);
    expect(end(&h, "last", true, NULL), NULL);
    instant_commit(i, &error);
    g_assert_no_error(error);
    begin_one(&h, "latest", h.vdb);
    session_end(session_find(h.sessions, "latest", NULL), true, NULL, answered, &a);
    stage_one(&h, none, "s1", h.vda, &error); /* it is being dropped */
    g_assert_cmpstr(error->message, ==, "Backup session id 's1' is already in use");
    g_clear_error(&error);
    instant_abort(none);
    while (!a.done)
        g_main_context_iteration(NULL, TRUE);
    restart(&h);
    g_assert_cmpstr(state_of(&h, "s0"), ==, "active");
    g_assert_null(state_of(&h, "s1"));
    expect_order(&h, "s63 last s0 latest ");
    house_end(&h);
}

/* A session is listed for long when it has ended. Its maps and exports are not there any more. */
static void test_ended_keeps_nothing(void)
{
    const struct wish w = {.id = "b", .since = "old"};
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    expect(end(&h, "b", true, NULL), NULL);
    for (guint i = 0; i < h.sessions->list->len; i++) {
        const struct session *n = h.sessions->list->pdata[i];

        g_assert_true(session_is_down(n));
        for (unsigned k = 0; k < n->record.disks->len; k++)
            g_assert_true(!n->disks[k].base && !n->disks[k].frozen && !n->disks[k].export);
    }
    g_assert_cmpuint(h.sessions->list->len, ==, 2);
    house_end(&h);
}

/* ---- clients that hang ---- */

static void ignore(struct export_client *c, bool cut)
{
}

static bool is_there(struct export_client *c)
{
    return false;
}

static void test_client_hangs(void)
{
    const struct wish w = {.id = "b", .checkpoint = "new"};
    struct export_client client = {.cancel = ignore, .hung_up = is_there};
    struct export *e;
    struct house h;

    house_begin(&h);
    expect(begin(&h, &w), NULL);
    e = server_find_export(h.server, EXPORTS_LIVE, "b/vda");
    g_assert_true(export_attach(e, &client));
    expect(end(&h, "b", true, NULL), NULL); /* it does not wait for ever */
    g_assert_cmpstr(state_of(&h, "b"), ==, "committed");
    g_assert_cmpuint(count_views(&h), ==, 1);
    expect(begin(&h, &w), "Backup session id 'b' is already in use");
    export_detach(&client);
    export_unref(e);
    while (count_views(&h) > 0)
        g_main_context_iteration(NULL, TRUE);
    while (server_has_turns(h.server))
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
    expect(begin(&h, &(struct wish){.id = "b"}), NULL);
    house_end(&h);
}

/* ---- the start ---- */

static char *given(void *opaque)
{
    return g_strdup(opaque);
}

static void test_start(void)
{
    const struct wish w = {.id = "open", .since = "old", .checkpoint = "new"};
    const struct state_record bad = {
        .kind = SESSION_KIND, .name = "bad", .text = given, .opaque = (void *)"{}"};
    struct instant *i;
    GError *error = NULL;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    i = instant_new();
    instant_record(i, h.vda, &bad, &error);
    instant_commit(i, &error);
    g_assert_no_error(error);
    restart(&h);
    for (int again = 0; again < 2; again++) {
        g_autoptr(GArray) records = NULL;

        g_assert_cmpstr(state_of(&h, "first"), ==, "committed");
        g_assert_cmpstr(state_of(&h, "open"), ==, "active");
        g_assert_null(state_of(&h, "bad"));
        expect_bitmaps(&h, "old! new ");
        restart(&h);
        records = store_records(h.store, SESSION_KIND);
        g_assert_cmpuint(records->len, ==, 2);
    }
    expect(end(&h, "open", true, NULL), NULL);
    expect_bitmaps(&h, "old new ");
    restart(&h);
    g_assert_cmpstr(state_of(&h, "open"), ==, "committed");
    house_end(&h);
}

static void put_record(struct house *h, const char *id, char *text)
{
    const struct state_record record = {
        .kind = SESSION_KIND, .name = id, .text = given, .opaque = text};
    struct instant *i = instant_new();
    GError *error = NULL;

    instant_record(i, h->vda, &record, &error);
    instant_commit(i, &error);
    g_assert_no_error(error);
}

/* A record that is as long as one can be is one that cannot say how its session ended. */
static void test_long_record(void)
{
    g_autofree char *name = g_strnfill(STATE_MAX_RECORD - 100, 'x'), *text = NULL, *why = NULL;
    const struct wish w = {.id = "b", .since = name};
    struct house h;

    house_begin(&h);
    text = g_strdup_printf("{\"state\":\"active\",\"since\":\"%s\",\"disks\":"
                           "[{\"disk\":\"x\",\"export\":\"e\",\"bitmap\":\"b\"}]}",
                           name);
    g_assert_cmpuint(strlen(text), <=, STATE_MAX_RECORD);
    put_record(&h, "long", text);
    for (int again = 0; again < 2; again++) {
        restart(&h);
        g_assert_cmpstr(state_of(&h, "long"), ==, again ? NULL : "aborted");
    }
    name[STATE_MAX_RECORD / 5 - 1000] = '\0'; /* a record has it once, and twice for each disk */
    why = begin(&h, &w);                      /* it could not be ended */
    g_assert_true(g_str_has_prefix(why, "Backup session 'b' cannot be kept: its record has "));
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    house_end(&h);
}

/* Its views are gone: it is aborted, and nothing is left of it. */
static void test_start_without_views(void)
{
    const struct wish w = {.id = "open", .since = "old", .checkpoint = "new"};
    GError *error = NULL;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    stop(&h);
    remove_all(h.shm);
    g_mkdir(h.shm, 0700);
    start(&h, h.scratch);
    for (int again = 0; again < 2; again++) {
        g_assert_cmpstr(state_of(&h, "open"), ==, "aborted");
        g_assert_null(session_find(h.sessions, "open", &error));
        g_assert_cmpstr(error->message, ==,
                        "Backup session 'open' was aborted: its view of disk vda is gone: what it "
                        "had in /dev/shm is gone");
        g_clear_error(&error);
        expect_bitmaps(&h, "old ");
        g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
        restart(&h);
    }
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sessions/begin-fails", test_begin_fails);
    g_test_add_func("/sessions/no-scratch", test_no_scratch);
    g_test_add_func("/sessions/base-breaks", test_base_breaks);
    g_test_add_func("/sessions/end-fails", test_end_fails);
    g_test_add_func("/sessions/doom-fails", test_doom_fails);
    g_test_add_func("/sessions/doom-comes-early", test_doom_comes_early);
    g_test_add_func("/sessions/view-breaks-early", test_view_breaks_early);
    g_test_add_func("/sessions/id-again", test_id_again);
    g_test_add_func("/sessions/ended-keeps-nothing", test_ended_keeps_nothing);
    g_test_add_func("/sessions/client-hangs", test_client_hangs);
    g_test_add_func("/sessions/start", test_start);
    g_test_add_func("/sessions/long-record", test_long_record);
    g_test_add_func("/sessions/start-without-views", test_start_without_views);
    return g_test_run();
}
