/* SPDX-License-Identifier: BSD-3-Clause */
/* What a start makes of the last server's sessions. */
#include "server/registry/registry.h"
#include "server/state/store.h"
#include "tests/rigs/session-rig.h"

#include <glib/gstdio.h>
#include <string.h>

static void test_start(void)
{
    const struct wish w = {.id = "open", .since = "old", .checkpoint = "new"};
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    put_record(&h, SESSION_KIND, "bad", "{}");
    restart(&h);
    for (int again = 0; again < 2; again++) {
        g_autoptr(GArray) records = NULL;

        g_assert_cmpstr(state_of(&h, "first"), ==, "committed");
        g_assert_cmpstr(state_of(&h, "open"), ==, "active");
        g_assert_null(state_of(&h, "bad"));
        expect_bitmaps_of_both(&h, "(old)! (new)");
        restart(&h);
        records = store_records(h.store, SESSION_KIND);
        g_assert_cmpuint(records->len, ==, 2);
    }
    expect(end(&h, "open", true, NULL), NULL);
    expect_bitmaps_of_both(&h, "(old) (new)");
    restart(&h);
    g_assert_cmpstr(state_of(&h, "open"), ==, "committed");
    house_end(&h);
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
    put_record(&h, SESSION_KIND, "long", text);
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
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    house_stop(&h);
    remove_all(h.shm);
    g_mkdir(h.shm, 0700);
    start(&h);
    for (int again = 0; again < 2; again++) {
        g_assert_cmpstr(state_of(&h, "open"), ==, "aborted");
        expect(why_gone(&h, "open"), "Backup session 'open' was aborted: its view of disk vda is "
                                     "gone: what it had in /dev/shm is gone");
        expect_bitmaps_of_both(&h, "(old)");
        g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
        restart(&h);
    }
    house_end(&h);
}

/* The next server has a disk of the export's name, too. */
static void start_with_x(struct house *h)
{
    house_stop(h);
    house_start(h, "vda vdb x");
    house_start_sessions(h);
}

/* The id of an export; NULL: it is a disk's own. */
static const char *id_of(struct house *h, enum export_scope scope, const char *name)
{
    struct export *e = server_find_export(h->server, scope, name);
    const char *id;

    g_assert_nonnull(e);
    id = export_info(e)->id;
    export_unref(e);
    return id;
}

/* Clients who came by it would find the disk, and take it for the session's view. */
static void test_disk_in_place_of_export(void)
{
    const struct wish w = {.id = "b", .since = "old", .checkpoint = "new", .export = "x"};
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    g_assert_cmpstr(id_of(&h, EXPORTS_LIVE, "x"), ==, "b/vdb");
    start_with_x(&h);
    for (int again = 0; again < 2; again++) {
        expect(why_gone(&h, "b"),
               "Backup session 'b' was aborted: its export of disk vdb: NBD server "
               "already has export named 'x'");
        expect_nothing_left(&h);
        restart(&h);
    }
    house_end(&h);
}

/* Where they came by a listener of its own, the session goes on. The other listeners have the disk. */
static void test_disk_beside_export(void)
{
    const struct wish w = {.id = "b", .since = "old", .export = "x", .together = true};
    struct session_info info;
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    start_with_x(&h);
    g_assert_cmpstr(state_of(&h, "b"), ==, "active");
    g_assert_null(id_of(&h, EXPORTS_LIVE, "x"));
    g_assert_cmpstr(id_of(&h, EXPORTS_ADDED, "x"), ==, "b/vdb");
    session_info(session_find(h.sessions, "b", NULL), &info);
    g_assert_false(g_array_index(info.disks, struct session_disk_info, 0).shadowed);
    g_assert_true(g_array_index(info.disks, struct session_disk_info, 1).shadowed);
    session_info_clear(&info);
    expect(end(&h, "b", true, NULL), NULL);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session-restore/start", test_start);
    g_test_add_func("/session-restore/long-record", test_long_record);
    g_test_add_func("/session-restore/without-views", test_start_without_views);
    g_test_add_func("/session-restore/disk-in-place-of-export", test_disk_in_place_of_export);
    g_test_add_func("/session-restore/disk-beside-export", test_disk_beside_export);
    return g_test_run();
}
