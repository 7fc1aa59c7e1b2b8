/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What sessions are kept in fails once, at each step of their lives: the catalogue, the bits, the memory
 * folder, the scratch. Either nothing has happened, or all has.
 */
#include "server/backup/session-private.h"
#include "server/disk/disk-private.h"
#include "server/registry/export-private.h"
#include "server/registry/turn.h"
#include "tests/rigs/failing-folder.h"
#include "tests/rigs/session-rig.h"

#include <glib/gstdio.h>
#include <string.h>

static const struct wish wish = {.id = "b", .since = "old", .checkpoint = "new"};

/* ---- beginnings ---- */

static void begin_fails(struct house *h)
{
    g_autofree char *why = begin(h, &wish);

    g_assert_nonnull(why);
    g_assert_null(state_of(h, "b"));
}

/* Put a file where a folder was, so that none is made there; and take it away again. */
static char *put_aside(const char *folder)
{
    char *aside = g_strconcat(folder, "-aside", NULL);

    g_assert_cmpint(g_rename(folder, aside), ==, 0);
    g_assert_true(g_file_set_contents(folder, "", -1, NULL));
    return aside;
}

static void put_back(const char *folder, char *aside)
{
    g_assert_cmpint(g_remove(folder), ==, 0);
    g_assert_cmpint(g_rename(aside, folder), ==, 0);
    g_free(aside);
}

static void test_begin(void)
{
    struct house h;

    house_begin(&h);
    make_old(&h);
    const char *folders[] = {h.scratch, g_build_filename(h.folder, "bits", NULL)};
    for (unsigned k = 0; k < G_N_ELEMENTS(folders); k++) {
        char *aside = put_aside(folders[k]);

        begin_fails(&h);
        put_back(folders[k], aside);
        expect_nothing_left(&h);
    }
    g_free((char *)folders[1]);
    fail_syncs("catalogue.db");
    begin_fails(&h);
    fail_syncs(NULL);
    expect_nothing_left(&h);
    restart(&h);
    expect_nothing_left(&h);
    house_end(&h);
}

/* The state folder is the only one that has something there. */
static char *path_in_memory(const struct house *h, const char *name)
{
    GDir *dir = g_dir_open(h->shm, 0, NULL);
    char *path = g_build_filename(h->shm, g_dir_read_name(dir), name, NULL);

    g_dir_close(dir);
    return path;
}

/* A session that has no room in the memory folder begins all the same, but ends with the server. */
static void test_no_memory(void)
{
    struct house h;

    house_begin(&h);
    make_old(&h);
    g_autofree char *views = path_in_memory(&h, "views");
    char *aside = put_aside(views);
    expect(begin(&h, &wish), NULL);
    put_back(views, aside);
    restart(&h);
    g_autofree char *why = why_gone(&h, "b");
    g_assert_true(
        g_str_has_prefix(why, "Backup session 'b' was aborted: its view of disk vda is gone: "));
    expect_nothing_left(&h);
    house_end(&h);
}

/* ---- ends ---- */

/* The decision fails, and nothing has changed. Then it does not. */
static void check_end(bool commit)
{
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &wish), NULL);
    fail_syncs("catalogue.db");
    g_autofree char *why = end(&h, "b", commit, NULL);
    fail_syncs(NULL);
    g_assert_nonnull(why);
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 4);
    expect_bitmaps_of_both(&h, "(old)! (new)");
    g_assert_cmpstr(h.events->str, ==, "first:commit:;");
    expect(end(&h, "b", commit, NULL), NULL);
    g_assert_cmpstr(state_of(&h, "b"), ==, commit ? "committed" : "aborted");
    restart(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, commit ? "committed" : "aborted");
    if (commit)
        expect_bitmaps_of_both(&h, "(old) (new)");
    else
        expect_nothing_left(&h);
    house_end(&h);
}

static void test_commit(void)
{
    check_end(true);
}

static void test_abort(void)
{
    check_end(false);
}

/* At once, if nothing keeps it. */
static void let_lease_end(struct session *n)
{
    GSource *timer = g_main_context_find_source_by_id(NULL, n->lease_timer);

    n->renewed -= n->record.lease * G_USEC_PER_SEC;
    for (unsigned k = 0; k < n->record.disks->len; k++)
        n->disks[k].export->idle_since -= n->record.lease * G_USEC_PER_SEC;
    g_source_set_ready_time(timer, 0);
    run_main_loop();
}

/* Its lease ends, of which the state folder takes nothing. */
static struct session *let_expire(struct house *h)
{
    struct session *n = session_find(h->sessions, "b", NULL);

    fail_syncs("catalogue.db");
    let_lease_end(n);
    house_settle(h);
    fail_syncs(NULL);
    g_assert_cmpstr(state_of(h, "b"), ==, "active");
    g_assert_cmpuint(n->retry_timer, !=, 0);
    expect(end(h, "b", true, NULL),
           "Backup session 'b' is being aborted: its lease of 60 s has ended");
    return n;
}

static void test_expiry(void)
{
    struct session *n;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &wish), NULL);
    n = let_expire(&h);
    g_clear_handle_id(&n->retry_timer, g_source_remove); /* as if it had come */
    session_pursue_doom(n);
    house_settle(&h);
    g_assert_cmpstr(h.events->str, ==, "first:commit:;b:abort:its lease of 60 s has ended;");
    g_assert_cmpstr(state_of(&h, "b"), ==, "aborted");
    restart(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, "aborted");
    expect_nothing_left(&h);
    house_end(&h);
}

/* An abort that was never decided has never been: the views are whole. The lease begins anew. */
static void test_restart_before_expiry(void)
{
    struct session_info info;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &wish), NULL);
    let_expire(&h);
    restart(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    session_info(session_find(h.sessions, "b", NULL), &info);
    g_assert_true(info.resumed);
    g_assert_cmpint(info.lease_left, >, 0);
    session_info_clear(&info);
    expect_bitmaps_of_both(&h, "(old)! (new)");
    expect(end(&h, "b", true, NULL), NULL);
    house_end(&h);
}

/* But that a view has broken is known from the view itself, whatever the state folder has taken. */
static void test_restart_with_broken_view(void)
{
    struct session *n;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &wish), NULL);
    n = session_find(h.sessions, "b", NULL);
    fail_syncs("catalogue.db");
    view_break(n->disks[1].view, "no space");
    run_main_loop();
    house_settle(&h);
    fail_syncs(NULL);
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    restart(&h);
    expect(why_gone(&h, "b"),
           "Backup session 'b' was aborted: its view of disk vdb is broken: no space");
    expect_nothing_left(&h);
    house_end(&h);
}

/* ---- leases ---- */

static char *renew(struct house *h, int64_t lease)
{
    struct answer a = {.done = false};

    session_renew(session_find(h->sessions, "b", NULL), lease, answered, &a);
    return wait_for_answer(&a);
}

static void expect_lease(struct house *h, int64_t lease)
{
    struct session_info info;

    session_info(session_find(h->sessions, "b", NULL), &info);
    g_assert_cmpint(info.lease, ==, lease);
    g_assert_cmpint(info.lease_left, <=, lease > 0 ? lease : -1);
    g_assert_cmpint(info.lease_left, >=, lease > 0 ? lease - 1000 : -1);
    session_info_clear(&info);
}

/* The new lease is the same after a restart. One that is not recorded changes nothing. */
static void test_renewal(void)
{
    static const int64_t leases[] = {100000, 0, 200000};
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &wish), NULL);
    for (unsigned k = 0; k < G_N_ELEMENTS(leases); k++) {
        expect(renew(&h, leases[k]), NULL);
        expect_lease(&h, leases[k]);
        fail_syncs("catalogue.db");
        g_autofree char *why = renew(&h, 300000);
        g_assert_nonnull(why);
        expect(renew(&h, -1), NULL); /* nothing is to be recorded */
        fail_syncs(NULL);
        expect_lease(&h, leases[k]);
        restart(&h);
        expect_lease(&h, leases[k]);
    }
    expect(end(&h, "b", true, NULL), NULL);
    house_end(&h);
}

static void hold(void *opaque, struct turn *turn, const GError *error)
{
    g_assert_no_error(error);
    *(struct turn **)opaque = turn;
}

/* A lease does not end while a new one waits to be recorded. It is not recorded for a session that is
 * about to end. */
static void test_renewal_waits(void)
{
    struct answer renewed = {.done = false}, late = {.done = false}, ended = {.done = false};
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    struct session *n;
    struct turn *turn = NULL;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &wish), NULL);
    n = session_find(h.sessions, "b", NULL);
    g_ptr_array_add(disks, h.vda);
    server_take_turn(h.server, disks, hold, &turn);
    while (!turn)
        g_main_context_iteration(NULL, TRUE);
    session_renew(n, 100000, answered, &renewed);
    g_assert_cmpuint(n->renewals, ==, 1);
    let_lease_end(n);
    g_assert_null(n->doom);
    session_renew(n, 200000, answered, &late);
    session_end(n, true, NULL, answered, &ended);
    turn_end(turn);
    expect(wait_for_answer(&renewed), "Backup session 'b' is being ended");
    expect(wait_for_answer(&late), "Backup session 'b' is being ended");
    expect(wait_for_answer(&ended), NULL);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session-faults/begin", test_begin);
    g_test_add_func("/session-faults/no-memory", test_no_memory);
    g_test_add_func("/session-faults/commit", test_commit);
    g_test_add_func("/session-faults/abort", test_abort);
    g_test_add_func("/session-faults/expiry", test_expiry);
    g_test_add_func("/session-faults/restart-before-expiry", test_restart_before_expiry);
    g_test_add_func("/session-faults/restart-with-broken-view", test_restart_with_broken_view);
    g_test_add_func("/session-faults/renewal", test_renewal);
    g_test_add_func("/session-faults/renewal-waits", test_renewal_waits);
    return g_test_run();
}
