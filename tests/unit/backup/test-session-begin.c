/* SPDX-License-Identifier: BSD-3-Clause */
/* Sessions whose beginning fails, at each step, and what happens to a session before it has begun. */
#include "server/backup/session-private.h"
#include "server/disk/disk-private.h"
#include "server/registry/registry-private.h"
#include "tests/rigs/session-rig.h"

#include <string.h>

/* ---- beginnings that fail ---- */

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
        g_assert_null(state_of(&h, "b"));
        expect_nothing_left(&h);
    }
    house_end(&h);
}

static void test_no_scratch(void)
{
    const struct wish w = {.id = "b", .checkpoint = "new"};
    g_autofree char *why = NULL;
    struct house h;

    house_begin(&h);
    house_stop(&h);
    remove_all(h.scratch);
    start(&h);
    why = begin(&h, &w);
    g_assert_nonnull(strstr(why, "scratch"));
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    g_assert_cmpuint(g_hash_table_size(h.server->reserved), ==, 0);
    expect_bitmaps_of_both(&h, "");
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
    const struct wish w = {.id = "b", .since = "old", .spoil = spoil_base};
    struct house h;

    house_begin(&h);
    make_old(&h);
    expect(begin(&h, &w), NULL);
    expect_broken_base(&h);
    restart(&h); /* its record says the same */
    expect_broken_base(&h);
    house_end(&h);
}

/* The same, of a strict session: it has never been, also where it was to be one action of several. */
static void test_base_of_a_strict_one_breaks(void)
{
    struct wish w = {.id = "b", .since = "old", .strict = true, .checkpoint = "new"};
    struct house h;

    house_begin(&h);
    make_old(&h);
    w.spoil = spoil_base;
    expect(begin(&h, &w), "disk vda: no backup since checkpoint 'old' is possible: it broke");
    house_settle(&h);
    expect(why_gone(&h, "b"), "Backup session 'b' not found");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    g_assert_cmpuint(g_hash_table_size(h.server->reserved), ==, 0);
    expect_bitmaps_of_both(&h, "(old)");
    g_assert_cmpstr(h.events->str, ==, "first:commit:;");
    house_end(&h);
}

/* ---- what comes before it has begun ---- */

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
    house_settle(&h);
    g_assert_cmpstr(h.events->str, ==, "b:abort:no listener;");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    expect_bitmaps_of_both(&h, "");
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
    at_commit(h, i, break_view, h);
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
    house_settle(&h);
    g_assert_cmpstr(h.events->str, ==,
                    "b:commit:;b:abort:its view of disk vdb is broken: no space;");
    g_assert_cmpuint(count_views(&h) + count_exports(&h), ==, 0);
    expect_bitmaps_of_both(&h, "");
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session-begin/fails", test_begin_fails);
    g_test_add_func("/session-begin/no-scratch", test_no_scratch);
    g_test_add_func("/session-begin/base-breaks", test_base_breaks);
    g_test_add_func("/session-begin/base-of-a-strict-one-breaks", test_base_of_a_strict_one_breaks);
    g_test_add_func("/session-begin/doom-comes-early", test_doom_comes_early);
    g_test_add_func("/session-begin/view-breaks-early", test_view_breaks_early);
    return g_test_run();
}
