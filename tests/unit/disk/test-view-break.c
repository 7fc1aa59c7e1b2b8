/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views: old data that cannot be kept. The view breaks, or the guest's write fails.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <string.h>

static void test_break_snapshot(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;
    struct view_info info;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 4096, 4096, 'b'); /* the guest notices nothing */
    g_assert_true(node_is(disk_node(r->disk), 0, 8192, 'b'));
    g_assert_cmpint(rig_try_read(v, 0, 512), ==, -EIO);
    g_assert_cmpuint(atomic_load(&r->broken_events), ==, 1);
    g_assert_cmpstr(r->broken_view, ==, "v");
    view_info(v, &info);
    g_assert_true(info.broken);
    g_assert_nonnull(strstr(info.reason, "disk vda: scratch: write at "));
    rig_fill(r, 0, 64 * KIB, 'c'); /* and nothing more is kept for it */
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    rig_delete(r, v);
    rig_free(r);
}

static void test_break_guest_write(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    rig_bitmap(r, "b", 4096);
    v = rig_view(r, "v", CBW_BREAK_GUEST_WRITE, 0);
    atomic_store(&r->failing_scratch_writes, 1);
    g_assert_cmpint(rig_try_fill(r, 4096, 4096, 'b'), ==, -EIO);
    g_assert_true(node_is(disk_node(r->disk), 0, 64 * KIB, 'a'));
    assert_view(v, 0, 64 * KIB, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    rig_fill(r, 4096, 4096, 'b'); /* it can be kept again, so the guest may write */
    assert_view(v, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* An older view breaks with the newest only where it needs the block from it. */
static void test_break_only_who_needs_it(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *oldest, *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    oldest = rig_view(r, "oldest", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 0, 4096, 'c');
    g_assert_false(view_is_broken(oldest));
    g_assert_true(view_is_broken(old));
    g_assert_true(view_is_broken(new));
    rig_fill(r, 0, 64 * KIB, 'd');
    assert_view(oldest, 0, 64 * KIB, 'a');
    rig_delete(r, old);
    rig_delete(r, new);
    assert_view(oldest, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* The view's own limit breaks that view alone; the older one keeps for itself from then on. */
static void test_own_limit(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 8192);
    rig_fill(r, 0, 8192, 'b');
    g_assert_false(view_is_broken(new));
    rig_fill(r, 8192, 4096, 'b');
    g_assert_true(view_is_broken(new));
    g_assert_false(view_is_broken(old));
    assert_view(old, 0, 64 * KIB, 'a');
    rig_fill(r, 0, 64 * KIB, 'c');
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

static void test_pool_limit(void)
{
    struct rig *r = rig_new(64 * KIB, 16384);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 16384, 'b');
    assert_view(v, 0, 64 * KIB, 'a');
    rig_fill(r, 16384, 4096, 'b');
    g_assert_true(view_is_broken(v));
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 16384);
    rig_delete(r, v);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 0);
    v = rig_view(r, "again", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 16384, 'c');
    g_assert_false(view_is_broken(v));
    rig_free(r);
}

/* Old data that cannot be read cannot be kept. */
static void test_backend_cannot_read(void)
{
    struct fake_failure failure = {.call = FAKE_READ, .error = -EIO};
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    fake_backend_fail(r->backend, &failure);
    rig_fill(r, 0, 4096, 'b');
    failure.error = 0;
    g_assert_true(view_is_broken(v));
    g_assert_true(node_is(disk_node(r->disk), 0, 4096, 'b'));
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view-break/break-snapshot", test_break_snapshot);
    g_test_add_func("/view-break/break-guest-write", test_break_guest_write);
    g_test_add_func("/view-break/break-only-who-needs-it", test_break_only_who_needs_it);
    g_test_add_func("/view-break/own-limit", test_own_limit);
    g_test_add_func("/view-break/pool-limit", test_pool_limit);
    g_test_add_func("/view-break/backend-cannot-read", test_backend_cannot_read);
    return g_test_run();
}
