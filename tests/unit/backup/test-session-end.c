/* SPDX-License-Identifier: BSD-3-Clause */
/* How sessions end: decisions that fail, clients that hang, what is listed afterwards. */
#include "common/util/log.h"
#include "server/backup/session-private.h"
#include "server/disk/disk-private.h"
#include "server/state/store.h"
#include "tests/rigs/session-rig.h"

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
    expect_bitmaps_of_both(&h, "(old)! (new)");
    g_assert_cmpstr(h.events->str, ==, "first:commit:;");
    expect(end(&h, "b", true, NULL), NULL);
    expect_bitmaps_of_both(&h, "(old) (new)");
    g_assert_cmpstr(h.events->str, ==, "first:commit:;b:commit:;");
    restart(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, "committed");
    expect_bitmaps_of_both(&h, "(old) (new)");
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
    house_settle(&h);
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
        house_settle(&h);
    }
    log_set_target(LOG_TO_STDERR);
    house_end(&h);
}

/* ---- what is listed ---- */

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
    expect(wait_for_answer(&a), NULL);
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
    house_settle(&h);
    expect(begin(&h, &(struct wish){.id = "b"}), NULL);
    house_end(&h);
}

/* ---- a disk that hangs ---- */

/* A write is under way, for longer than the disk waits. */
static struct node_io *hang(struct disk *d)
{
    struct node_io *io;
    GError *error = NULL;

    node_io_open(disk_node(d), true, false, NULL, &io, &error);
    g_assert_no_error(error);
    gate_enter(io->slot);
    d->drain_usec = 1000;
    return io;
}

static void go_on(struct disk *d, struct node_io *io)
{
    gate_leave(io->slot);
    node_io_close(io);
    d->drain_usec = DRAIN_USEC;
}

/* The checkpoint's bitmaps cannot be removed: nothing has happened. */
static void test_abort_of_a_disk_that_hangs(void)
{
    const struct wish w = {.id = "b", .since = "old", .checkpoint = "new"};
    struct node_io *io;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    io = hang(h.vda);
    expect(end(&h, "b", false, NULL), "disk vda: writes under way did not end within 0 s");
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 4);
    expect_bitmaps_of_both(&h, "(old)! (new)");
    go_on(h.vda, io);
    expect(end(&h, "b", false, NULL), NULL);
    expect_nothing_left(&h);
    house_end(&h);
}

/* What is decided stands. The view follows as soon as it can. */
static void test_views_of_a_disk_that_hangs(void)
{
    const struct wish w = {.id = "b", .checkpoint = "old"};
    struct session *n;
    struct node_io *io;
    struct house h;

    house_begin(&h);
    expect(begin(&h, &w), NULL);
    n = h.sessions->list->pdata[0];
    io = hang(h.vda);
    expect(end(&h, "b", true, NULL), NULL);
    house_settle(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, "committed");
    g_assert_cmpuint(count_exports(&h), ==, 0);
    g_assert_cmpuint(count_views(&h), ==, 1);
    expect(begin(&h, &w), "Backup session id 'b' is already in use");
    go_on(h.vda, io);
    g_source_set_ready_time(g_main_context_find_source_by_id(NULL, n->retry_timer), 0);
    run_main_loop();
    house_settle(&h);
    expect_nothing_left(&h);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session-end/fails", test_end_fails);
    g_test_add_func("/session-end/doom-fails", test_doom_fails);
    g_test_add_func("/session-end/id-again", test_id_again);
    g_test_add_func("/session-end/ended-keeps-nothing", test_ended_keeps_nothing);
    g_test_add_func("/session-end/client-hangs", test_client_hangs);
    g_test_add_func("/session-end/abort-of-a-disk-that-hangs", test_abort_of_a_disk_that_hangs);
    g_test_add_func("/session-end/views-of-a-disk-that-hangs", test_views_of_a_disk_that_hangs);
    return g_test_run();
}
