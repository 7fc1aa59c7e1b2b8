/* SPDX-License-Identifier: BSD-3-Clause */
/* Faults that reviewers found in server/disk/, each as the test that showed it. */
#include "config.h"

#include "tests/unit/disk-harness.h"

/* Under a view, zeroing a hole changes nothing and is left out. But with FUA the client is told
 * that the range is safe, and that it is a hole may be news that no medium has heard of yet. */
static void test_fua_of_a_hole(void)
{
    struct rig *r = rig_new(16 * MIB, 0);
    struct view *v;

    rig_fill(r, 0, 1 * MIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_zero(r->io, 8 * MIB, 0, BACKEND_MAY_TRIM), ==, 0);
    unsigned before = fake_backend_calls(r->backend, FAKE_ZERO);
    g_assert_cmpint(node_zero(r->io, 8 * MIB, 0, BACKEND_MAY_TRIM | BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_ZERO), ==, before + 1);

    before = fake_backend_calls(r->backend, FAKE_TRIM);
    g_assert_cmpint(node_trim(r->io, 8 * MIB, 0, 0), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_TRIM), ==, before);
    g_assert_cmpint(node_trim(r->io, 8 * MIB, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_TRIM), ==, before + 1);
    assert_view(v, 0, 1 * MIB, 'a');
    rig_delete(r, v);
    rig_free(r);
}

/* What grows is dirty: those bits may be many, so they are set before guests have to wait. */
static int look_at_shadow(void *rig, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct rig *r = rig;
    struct tracker *t = r->disk->tracker;

    if (call == FAKE_RESIZE) {
        g_assert_cmpuint(t->n, ==, 2); /* the bitmap's old bits and the new ones */
        g_assert_false(bitmap_test(t->marks[1].bits, 1 * MIB - 1));
        g_assert_true(bitmap_test(t->marks[1].bits, 1 * MIB));
        g_assert_true(bitmap_test(t->marks[1].bits, 64 * MIB - 1));
    }
    return 0;
}

static void test_growth_is_marked_before_the_gate(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    GError *error = NULL;

    rig_bitmap(r, "b", 65536);
    fake_backend_set_hook(r->backend, look_at_shadow, r);
    disk_resize(r->disk, 64 * MIB, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_RESIZE), ==, 1);
    g_assert_cmpuint(rig_count(r, "b"), ==, 63 * MIB);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/found/fua-of-a-hole", test_fua_of_a_hole);
    g_test_add_func("/found/growth-is-marked-before-the-gate",
                    test_growth_is_marked_before_the_gate);
    return g_test_run();
}
