/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a write, zero or trim gets from a node to the backend, with a view and without one: its
 * flags, which bits it sets, what is kept, and what becomes of an error.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <string.h>

#define UNIT UINT64_C(4096)
#define FUA  BACKEND_FUA
#define FAST BACKEND_FAST
#define TRIM BACKEND_MAY_TRIM

/* Each flag reaches the backend, for short and long ranges, and nothing else does. */
static void test_flags(gconstpointer view)
{
    static const uint32_t zero_flags[] = {0, FUA, TRIM, FAST, FUA | TRIM, FAST | TRIM, FAST | FUA};
    const uint64_t lengths[] = {UNIT, 6 * MIB};
    struct rig *r = rig_new(6 * MIB, 0);

    rig_fill(r, 0, 6 * MIB, 'a');
    if (view)
        rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, UNIT, 'b');
    g_assert_cmpuint(fake_backend_last_flags(r->backend), ==, 0);
    g_assert_cmpint(node_write(r->io, "x", 1, 0, FUA), ==, 0);
    g_assert_cmpuint(fake_backend_last_flags(r->backend), ==, FUA);
    for (unsigned l = 0; l < G_N_ELEMENTS(lengths); l++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(zero_flags); i++) {
            rig_fill(r, 0, 6 * MIB, 'a');
            g_assert_cmpint(node_zero(r->io, lengths[l], 0, zero_flags[i]), ==, 0);
            g_assert_cmpuint(fake_backend_last_flags(r->backend), ==, zero_flags[i]);
            g_assert_true(node_is(disk_node(r->disk), 0, lengths[l], 0));
        }
        for (uint32_t flags = 0; flags <= FUA; flags += FUA) {
            rig_fill(r, 0, 6 * MIB, 'a');
            g_assert_cmpint(node_trim(r->io, lengths[l], 0, flags), ==, 0);
            g_assert_cmpuint(fake_backend_last_flags(r->backend), ==, flags);
        }
    }
    rig_free(r);
}

/* A long trim goes in pieces under a view. Where a piece fails, or cannot be kept, the trim has
 * failed, and what is behind that piece is as it was. */
static void test_long_trim_fails(void)
{
    struct rig *r = rig_new(32 * MIB, 0);
    struct fake_failure f = {FAKE_TRIM, -ENOSPC, 8 * MIB};
    struct view *v;

    rig_fill(r, 0, 32 * MIB, 'a');
    rig_bitmap(r, "b", 65536);
    v = rig_view(r, "v", CBW_BREAK_GUEST_WRITE, 0);
    fake_backend_fail(r->backend, &f);
    g_assert_cmpint(node_trim(r->io, 32 * MIB, 0, 0), ==, -ENOSPC);
    g_assert_true(node_is(disk_node(r->disk), 8 * MIB, 24 * MIB, 'a'));
    assert_view(v, 0, 32 * MIB, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, 32 * MIB);

    f = (struct fake_failure){FAKE_READ, -EIO, 20 * MIB};
    g_assert_cmpint(node_trim(r->io, 32 * MIB, 0, 0), ==, -EIO);
    f.error = 0;
    g_assert_true(node_is(disk_node(r->disk), 20 * MIB, 12 * MIB, 'a'));
    assert_view(v, 0, 32 * MIB, 'a');
    g_assert_cmpint(node_zero(r->io, 32 * MIB, 0, 0), ==, 0);
    assert_view(v, 0, 32 * MIB, 'a');
    rig_free(r);
}

/* Old data cannot be kept, and the guest's request fails for it. A request that is kept at once has
 * set no bit and changed nothing. One that is kept by the piece has set all its bits and changed
 * the pieces before. */
static void test_what_is_marked(void)
{
    struct rig *r = rig_new(32 * MIB, 0);
    struct fake_failure f = {FAKE_READ, -EIO, 20 * MIB};

    rig_fill(r, 0, 32 * MIB, 'a');
    rig_bitmap(r, "b", 65536);
    rig_view(r, "v", CBW_BREAK_GUEST_WRITE, 0);
    fake_backend_fail(r->backend, &f);
    g_assert_cmpint(rig_try_fill(r, 20 * MIB, UNIT, 'b'), ==, -EIO);
    g_assert_cmpint(node_zero(r->io, UNIT, 20 * MIB, 0), ==, -EIO);
    g_assert_cmpint(node_zero(r->io, 32 * MIB, 0, 0), ==, -EIO);
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    g_assert_cmpint(node_zero(r->io, 32 * MIB, 0, TRIM), ==, -EIO);
    g_assert_cmpuint(rig_count(r, "b"), ==, 32 * MIB);
    f.error = 0;
    g_assert_true(node_is(disk_node(r->disk), 0, 20 * MIB, 0));
    g_assert_true(node_is(disk_node(r->disk), 20 * MIB, 12 * MIB, 'a'));
    rig_free(r);
}

/* Data and holes in turn, at every side of a piece's edge: no data is passed over. */
static void test_long_trim_of_scattered(void)
{
    const uint64_t size = 32 * MIB;
    struct rig *r = rig_new(size, 0);
    g_autofree char *before = g_malloc(size);
    struct view *v;

    rig_fill(r, 4 * MIB - UNIT, UNIT, 'a');
    rig_fill(r, 8 * MIB, UNIT, 'b');
    rig_fill(r, 16 * MIB - UNIT, 2 * UNIT, 'c');
    rig_fill(r, 22 * MIB, 2 * MIB, 'd');
    rig_fill(r, 32 * MIB - UNIT, UNIT, 'e');
    fake_backend_peek(r->backend, before, size, 0);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_bitmap(r, "b", 65536);
    g_assert_cmpint(node_trim(r->io, size - 3 * MIB, 2 * MIB, 0), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, size - 3 * MIB);
    g_assert_true(node_is(disk_node(r->disk), 0, 31 * MIB, 0));
    g_assert_true(node_is(disk_node(r->disk), 32 * MIB - UNIT, UNIT, 'e'));
    g_assert_cmpuint(rig_kept(v), ==, 2 * MIB + 4 * UNIT);
    assert_view_bytes(v, 0, size, before);
    rig_free(r);
}

/* A backend that does not tell of holes is not asked, and has none. */
static void test_no_extents(void)
{
    struct backend *b = fake_backend_new(16 * MIB);
    struct rig *r;
    struct view *v;

    fake_backend_set_no_extents(b);
    r = rig_new_over(b, 0);
    rig_fill(r, 8 * MIB, UNIT, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_trim(r->io, 16 * MIB, 0, 0), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_EXTENTS), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, UNIT);
    assert_view(v, 8 * MIB, UNIT, 'a');
    rig_free(r);
}

/* A client counts itself while it is there. */
static void test_counts_itself(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct node_io *io;
    GError *error = NULL;

    g_assert_cmpint(node_io_open(disk_node(r->disk), true, false, NULL, &io, NULL), ==, 0);
    node_io_close(r->io);
    g_assert_cmpint(disk_resize(r->disk, 32 * KIB, &error), ==, -1);
    g_clear_error(&error);
    node_io_close(io);
    disk_resize(r->disk, 32 * KIB, &error);
    g_assert_no_error(error);
    g_assert_cmpint(node_io_open(disk_node(r->disk), true, false, NULL, &r->io, NULL), ==, 0);
    g_assert_cmpuint(node_io_info(r->io)->size, ==, 32 * KIB);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/node-clear/flags", NULL, test_flags);
    g_test_add_data_func("/node-clear/flags/view", "", test_flags);
    g_test_add_func("/node-clear/long-trim-fails", test_long_trim_fails);
    g_test_add_func("/node-clear/what-is-marked", test_what_is_marked);
    g_test_add_func("/node-clear/long-trim-of-scattered", test_long_trim_of_scattered);
    g_test_add_func("/node-clear/no-extents", test_no_extents);
    g_test_add_func("/node-clear/counts-itself", test_counts_itself);
    return g_test_run();
}
