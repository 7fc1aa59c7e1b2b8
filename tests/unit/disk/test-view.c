/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views: copy-before-write, the chain, and deletion.
 */
#include "tests/rigs/disk-harness.h"

static void test_keeps_once(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *v;

    rig_fill(r, 0, 1 * MIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 8192, 4096, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    rig_fill(r, 8192, 4096, 'c');
    rig_fill(r, 8200, 1, 'd');
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    rig_fill(r, 4095, 2, 'e'); /* two blocks, by one byte each */
    g_assert_cmpuint(rig_kept(v), ==, 3 * 4096);
    assert_view(v, 0, 1 * MIB, 'a');
    g_assert_true(node_is(disk_node(r->disk), 4095, 2, 'e'));
    rig_fill(r, 0, 1 * MIB, 'f');
    g_assert_cmpuint(rig_kept(v), ==, 1 * MIB);
    assert_view(v, 0, 1 * MIB, 'a');
    rig_delete(r, v);
    rig_free(r);
}

/* A view tells data, zeroes and holes apart, and only data takes space. */
static void test_zeroes_and_holes(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    struct view *v;

    rig_fill(r, 0, 4096, 'a');
    rig_fill(r, 4096, 4096, 0);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 512 * KIB, 'b');
    g_assert_cmpint(node_trim(r->io, 256 * KIB, 512 * KIB, 0), ==, 0);
    g_assert_cmpint(node_zero(r->io, 4096, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    assert_view(v, 0, 4096, 'a');
    assert_view(v, 4096, 1 * MIB - 4096, 0);

    g_assert_cmpint(node_io_open(view_node(v), false, false, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_extents(io, 1 * MIB, 0, 0, &e), ==, 0);
    node_io_close(io);
    g_assert_cmpuint(e.count, ==, 3);
    g_assert_cmpuint(e.list[0].length, ==, 4096);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    g_assert_cmpuint(e.list[1].length, ==, 4096);
    g_assert_cmpuint(e.list[1].flags, ==, EXTENT_ZERO);
    g_assert_cmpuint(e.list[2].length, ==, 1 * MIB - 8192);
    g_assert_cmpuint(e.list[2].flags, ==, EXTENT_HOLE | EXTENT_ZERO);
    extents_free(&e);
    rig_free(r);
}

/* Trimming a sparse disk under a view reads nothing, keeps nothing, and marks only where data is.
 */
static void test_trim_of_holes_reads_nothing(void)
{
    struct rig *r = rig_new(64 * MIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);

    rig_bitmap(r, "b", 65536);
    g_assert_cmpint(node_trim(r->io, 64 * MIB, 0, 0), ==, 0);
    g_assert_cmpuint(fake_backend_bytes_read(r->backend), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_TRIM), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 0);
    g_assert_cmpuint(bitmap_count(v->touched), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 64 * MIB);
    rig_delete(r, v);

    rig_fill(r, 33 * MIB, 4096, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_zero(r->io, 64 * MIB, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    g_assert_cmpuint(bitmap_count(v->touched), ==, VIEW_TOUCHED_UNIT);
    assert_view(v, 33 * MIB, 4096, 'a');
    assert_view(v, 34 * MIB, 1 * MIB, 0);
    g_assert_true(node_is(disk_node(r->disk), 33 * MIB, 4096, 0));
    rig_free(r);
}

/* So does zeroing in one piece, be it fast or keeping the space. */
static void test_zero_of_holes(gconstpointer flags)
{
    struct rig *r = rig_new(64 * MIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);

    g_assert_cmpint(node_zero(r->io, 64 * MIB, 0, GPOINTER_TO_UINT(flags)), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_ZERO), ==, 1);
    g_assert_cmpuint(bitmap_count(v->touched), ==, 0);
    rig_delete(r, v);
    rig_free(r);

    r = rig_new(64 * MIB, 0);
    rig_fill(r, 33 * MIB, 4096, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_zero(r->io, 64 * MIB, 0, GPOINTER_TO_UINT(flags)), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    g_assert_cmpuint(bitmap_count(v->touched), ==, VIEW_TOUCHED_UNIT);
    assert_view(v, 33 * MIB, 4096, 'a');
    assert_view(v, 34 * MIB, 1 * MIB, 0);
    g_assert_true(node_is(disk_node(r->disk), 33 * MIB, 4096, 0));
    rig_fill(r, 40 * MIB, 4096, 'b'); /* a write into a hole keeps the hole */
    assert_view(v, 40 * MIB, 4096, 0);
    rig_free(r);
}

static void test_odd_sizes(void)
{
    struct rig *r = rig_new(10000, 0);
    struct view *v;

    rig_fill(r, 0, 10000, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 9999, 1, 'b');
    assert_view(v, 0, 10000, 'a');
    rig_fill(r, 0, 10000, 'b');
    assert_view(v, 0, 10000, 'a');
    assert_view(v, 8190, 1810, 'a');
    rig_free(r);
}

static void test_min_block_is_the_unit(void)
{
    struct rig *r = rig_new_blocks(1 * MIB, 0, 65536);
    struct view *v;

    rig_fill(r, 0, 1 * MIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 65536, 65536, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 65536);
    assert_view(v, 0, 1 * MIB, 'a');
    rig_free(r);
}

/* Three views, each block kept once for the newest that needs it. Then they are deleted, in every
 * order. */
static void test_chain(gconstpointer order_string)
{
    const char *order = order_string;
    struct rig *r = rig_new(256 * KIB, 0);
    struct view *v[3];
    bool gone[3] = {false, false, false};

    rig_fill(r, 0, 256 * KIB, 'a');
    v[0] = rig_view(r, "v0", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 128 * KIB, 'b');
    v[1] = rig_view(r, "v1", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 64 * KIB, 128 * KIB, 'c');
    v[2] = rig_view(r, "v2", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 256 * KIB, 'd');
    g_assert_cmpuint(rig_kept(v[0]), ==, 128 * KIB);
    g_assert_cmpuint(rig_kept(v[1]), ==, 128 * KIB);
    g_assert_cmpuint(rig_kept(v[2]), ==, 256 * KIB);

    for (int step = 0; step <= 3; step++) {
        if (!gone[0])
            assert_view(v[0], 0, 256 * KIB, 'a');
        if (!gone[1]) {
            assert_view(v[1], 0, 128 * KIB, 'b');
            assert_view(v[1], 128 * KIB, 128 * KIB, 'a');
        }
        if (!gone[2]) {
            assert_view(v[2], 0, 64 * KIB, 'b');
            assert_view(v[2], 64 * KIB, 128 * KIB, 'c');
            assert_view(v[2], 192 * KIB, 64 * KIB, 'a');
        }
        if (step < 3) {
            int which = order[step] - '0';

            rig_delete(r, v[which]);
            gone[which] = true;
            rig_fill(r, (uint64_t)step * 20 * KIB, 100 * KIB, 'x');
        }
    }
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 0);
    rig_free(r);
}

/* Blocks of a deleted view that nobody needs come back to the budget at once. */
static void test_delete_frees(void)
{
    struct rig *r = rig_new(256 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 256 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 64 * KIB, 'b');
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 128 * KIB, 'c');
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 64 * KIB + 128 * KIB);
    rig_delete(r, new); /* old needs half of what it kept */
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 128 * KIB);
    assert_view(old, 0, 256 * KIB, 'a');
    rig_fill(r, 0, 256 * KIB, 'd');
    assert_view(old, 0, 256 * KIB, 'a');
    rig_free(r);
}

static void test_in_use(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    GError *error = NULL;

    view_use_begin(v);
    g_assert_cmpint(view_delete(v, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "Node v is in use");
    g_clear_error(&error);
    g_assert_false(view_is_broken(v));
    view_use_end(v);
    rig_delete(r, v);
    rig_free(r);
}

int main(int argc, char **argv)
{
    static const char *const orders[] = {"012", "021", "102", "120", "201", "210"};

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view/keeps-once", test_keeps_once);
    g_test_add_func("/view/zeroes-and-holes", test_zeroes_and_holes);
    g_test_add_func("/view/trim-of-holes-reads-nothing", test_trim_of_holes_reads_nothing);
    g_test_add_data_func("/view/fast-zero-of-holes",
                         GUINT_TO_POINTER(BACKEND_MAY_TRIM | BACKEND_FAST), test_zero_of_holes);
    g_test_add_data_func("/view/zero-of-holes-keeping-space", NULL, test_zero_of_holes);
    g_test_add_func("/view/odd-sizes", test_odd_sizes);
    g_test_add_func("/view/min-block-is-the-unit", test_min_block_is_the_unit);
    for (unsigned i = 0; i < G_N_ELEMENTS(orders); i++) {
        g_autofree char *path = g_strdup_printf("/view/chain/%s", orders[i]);

        g_test_add_data_func(path, orders[i], test_chain);
    }
    g_test_add_func("/view/delete-frees", test_delete_frees);
    g_test_add_func("/view/in-use", test_in_use);
    return g_test_run();
}
