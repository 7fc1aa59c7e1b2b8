/* SPDX-License-Identifier: BSD-3-Clause */
/* Growth of disks, and FUA under a view: each test shows a fault that was once in server/disk/. */
#include "tests/rigs/disk-harness.h"

#include <errno.h>

/* Under a view, zeroing a hole changes nothing and is left out. With FUA it is not left out: the
 * client is told that the range is safe, and the hole itself may not be on the medium yet. */
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

/* The new part of a grown disk is dirty. Its bits may be many, so they are set before guests have
 * to wait; and after the image has grown, because that may be refused. */
struct look {
    struct rig *rig;
    unsigned times;
};

static int look_at_shadow(void *look, enum disk_point point, uint64_t offset)
{
    struct look *l = look;
    struct rig *r = l->rig;
    struct tracker *t = r->disk->tracker;

    if (point == POINT_GATES_CLOSED) {
        l->times++;
        g_assert_cmpuint(t->n, ==, 2); /* the bitmap's old bits and the new ones */
        g_assert_false(bitmap_test(t->marks[1].bits, 1 * MIB - 1));
        g_assert_true(bitmap_test(t->marks[1].bits, 1 * MIB));
        g_assert_true(bitmap_test(t->marks[1].bits, 64 * MIB - 1));
        g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_RESIZE), ==, 1);
        g_assert_cmpuint(disk_size(r->disk), ==, 1 * MIB);
    }
    return 0;
}

static void test_growth_is_marked_before_the_gate(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct look look = {.rig = r};
    struct disk_hooks hooks = {.at = look_at_shadow, .opaque = &look};
    GError *error = NULL;

    rig_bitmap(r, "b", 65536);
    r->disk->hooks = &hooks;
    disk_resize(r->disk, 64 * MIB, &error);
    g_assert_no_error(error);
    r->disk->hooks = &r->hooks;
    g_assert_cmpuint(look.times, ==, 1);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_RESIZE), ==, 1);
    g_assert_cmpuint(rig_count(r, "b"), ==, 63 * MIB);
    rig_free(r);
}

static int refuse_to_grow(void *rig, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct rig *r = rig;

    if (call != FAKE_RESIZE)
        return 0;
    g_assert_cmpuint(r->disk->tracker->n, ==, 1); /* nothing was prepared for it */
    return -EFBIG;
}

/* A size that the image cannot have costs nothing: its bits, 2 GiB of memory, are not set. */
static void test_growth_that_is_refused(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    GError *error = NULL;

    rig_bitmap(r, "b", 65536);
    fake_backend_set_hook(r->backend, refuse_to_grow, r);
    g_assert_cmpint(disk_resize(r->disk, UINT64_C(1) << 50, &error), <, 0);
    g_assert_nonnull(error);
    g_error_free(error);
    g_assert_cmpuint(disk_size(r->disk), ==, 1 * MIB);
    rig_fill(r, 0, 1 * MIB, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, 1 * MIB);
    rig_free(r);
}

static int hang_a_write(void *rig, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct rig *r = rig;

    if (call == FAKE_RESIZE && fake_backend_calls(r->backend, FAKE_RESIZE) == 1)
        atomic_fetch_add(&r->io->slot->inside, 1);
    return 0;
}

/* The image has grown, and then a write hangs, so that no instant comes about: the disk keeps its
 * old size, and can grow another time. */
static void test_growth_without_an_instant(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    GError *error = NULL;

    rig_bitmap(r, "b", 65536);
    fake_backend_set_hook(r->backend, hang_a_write, r);
    r->disk->drain_usec = 1000;
    g_assert_cmpint(disk_resize(r->disk, 64 * MIB, &error), <, 0);
    g_assert_nonnull(error);
    g_clear_error(&error);
    g_assert_cmpuint(disk_size(r->disk), ==, 1 * MIB);
    gate_leave(r->io->slot);
    r->disk->drain_usec = DRAIN_USEC;
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    disk_resize(r->disk, 2 * MIB, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(disk_size(r->disk), ==, 2 * MIB);
    g_assert_cmpuint(rig_count(r, "b"), ==, 1 * MIB);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/found/fua-of-a-hole", test_fua_of_a_hole);
    g_test_add_func("/found/growth-is-marked-before-the-gate",
                    test_growth_is_marked_before_the_gate);
    g_test_add_func("/found/growth-that-is-refused", test_growth_that_is_refused);
    g_test_add_func("/found/growth-without-an-instant", test_growth_without_an_instant);
    return g_test_run();
}
