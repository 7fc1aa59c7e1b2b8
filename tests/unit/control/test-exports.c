/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exports that are removed, and what clients keep from being done, on the real registry.
 */
#include "server/registry/registry-private.h"
#include "tests/rigs/leaver.h"

#define IN_USE "export 'e' still in use"

/* A client that has hung up and has not left yet does not use its export any more: the removal
 * waits for it. */
static void test_hung_up(void)
{
    struct leaver one, two;
    struct house h;

    house_begin(&h);
    add_export(&h);
    leaver_begin(&one, &h, "e", true, true);
    leaver_begin(&two, &h, "e", true, true);
    gint64 begin = g_get_monotonic_time();
    succeeds(&h, "block-export-del", "{'id':'e'}");
    /* The last client wakes it, not the end of its patience. */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, EXPORT_GRACE_MS * 1000);
    leaver_end(&one);
    leaver_end(&two);
    fails(&h, "Export 'e' is not found", "block-export-del", "{'id':'e'}");
    house_end(&h);
}

/* A removal does not wait where one of the clients has not hung up. */
static void test_not_hung_up(void)
{
    struct leaver there, gone;
    struct house h;

    house_begin(&h);
    add_export(&h);
    leaver_begin(&gone, &h, "e", true, false);
    leaver_begin(&there, &h, "e", false, false);
    gint64 begin = g_get_monotonic_time();
    fails(&h, IN_USE, "block-export-del", "{'id':'e'}");
    g_assert_cmpint(g_get_monotonic_time() - begin, <, EXPORT_GRACE_MS * 1000);
    leaver_end(&there);
    /* A client that has hung up and does not leave is waited for, but not for ever. The export
     * stays. */
    fails(&h, IN_USE, "block-export-del", "{'id':'e'}");
    leaver_end(&gone);
    succeeds(&h, "block-export-del", "{'id':'e'}");
    house_end(&h);
}

/* A disk shrinks when all of its clients have hung up, as soon as the last has left. */
static void test_shrink(void)
{
    struct leaver guest;
    struct house h;

    house_begin(&h);
    fails(&h, "disk vda: cannot shrink while a client is connected", "block_resize",
          "{'device':'vda','size':1048576}");
    add_export(&h);
    g_clear_pointer(&h.io, node_io_close);
    for (int live = 0; live < 2; live++) {
        leaver_begin(&guest, &h, live ? "vda" : "e", true, true);
        succeeds(&h, "block_resize",
                 live ? "{'device':'vda','size':1048576}" : "{'device':'vda','size':2097152}");
        leaver_end(&guest);
    }
    house_end(&h);
}

/* An export that is being removed is not found, and a client that has found it before does not get
 * in. All its bitmaps are busy until its last client has left, which may take long. */
static void test_on_its_way_out(void)
{
    struct house h;
    struct leaver guest;
    static struct export_client late;

    house_begin(&h);
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'a','disabled':true}");
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'b','disabled':true}");
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'c','disabled':true}");
    g_autofree char *before = everything(&h);
    succeeds(&h, "block-export-add",
             "{'type':'nbd','id':'e','node-name':'vda','name':'e','bitmaps':['a','b']}");
    struct export *found = server_find_export(h.server, EXPORTS_ADDED, "e");
    g_assert_nonnull(found);
    leaver_begin(&guest, &h, "e", false, false);
    succeeds(&h, "block-export-del", "{'id':'e','mode':'hard'}");
    g_assert_cmpint(next_timer(), >=, 0);
    fails(&h, "Export 'e' is already shutting down", "block-export-del", "{'id':'e'}");
    fails(&h, "Block export id 'e' is already in use", "block-export-add",
          "{'type':'nbd','id':'e','node-name':'vda','name':'e'}");
    g_assert_null(server_find_export(h.server, EXPORTS_ADDED, "e"));
    g_assert_null(server_find_export(h.server, EXPORTS_LIVE, "e"));
    g_assert_false(export_attach(found, &late));
    for (int i = 0; i < 2; i++)
        fails(&h,
              i ? "Bitmap 'b' is currently in use by another operation and cannot be used"
                : "Bitmap 'a' is currently in use by another operation and cannot be used",
              "block-dirty-bitmap-remove",
              i ? "{'node':'vda','name':'b'}" : "{'node':'vda','name':'a'}");
    fails(&h, "Bitmap 'b' is currently in use by another operation and cannot be used",
          "block-export-add", /* it fails, and uses none of them */
          "{'type':'nbd','id':'f','node-name':'vda','name':'f','bitmaps':['c','b']}");
    leaver_end(&guest);
    export_unref(found);
    g_assert_cmpint(next_timer(), ==, -1); /* there is nothing left to do later */
    g_autofree char *after = everything(&h);
    g_assert_cmpstr(after, ==, before);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/exports/hung-up", test_hung_up);
    g_test_add_func("/exports/not-hung-up", test_not_hung_up);
    g_test_add_func("/exports/shrink", test_shrink);
    g_test_add_func("/exports/on-its-way-out", test_on_its_way_out);
    return g_test_run();
}
