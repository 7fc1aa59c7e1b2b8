/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faults that the model test has found, each as small as possible and without threads. (Those that
 * need three threads in a certain order are in test-schedules.)
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>

/* A write between the staging of a merge and its instant sets a whole granule of the source. So it
 * sets as much in the target, however fine the target is. */
static void test_merge_of_coarser_bitmap(void)
{
    struct rig *r = rig_new(1 * MIB + 512, 0);
    struct instant *i;
    GError *error = NULL;

    rig_bitmap(r, "coarse", 65536);
    rig_bitmap(r, "fine", 512);
    rig_bitmap(r, "finest", 512);
    i = instant_new();
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "fine", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "fine", r->disk, "coarse", NULL), ==, 0);
    /* "finest" has its own writes and, through "fine", those of "coarse". */
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "finest", r->disk, "fine", NULL), ==, 0);
    rig_fill(r, 65536 + 1000, 1, 'a');
    rig_fill(r, 1 * MIB, 1, 'b'); /* the last granule is short */
    g_assert_cmpint(instant_commit(i, &error), ==, 0);
    g_assert_no_error(error);
    g_assert_cmpuint(rig_count(r, "coarse"), ==, 2 * 65536);
    g_assert_cmpuint(rig_count(r, "fine"), ==, 65536 + 512);
    g_assert_cmpuint(rig_count(r, "finest"), ==, 65536 + 512);

    /* From here on each bitmap records at its own granularity again. */
    rig_fill(r, 4 * 65536, 1, 'c');
    g_assert_cmpuint(rig_count(r, "fine"), ==, 65536 + 1024);
    rig_free(r);
}

/* A client that comes while the backend is asked to grow must not hear of a size that the backend
 * may still refuse. */
static int refuse_to_grow(void *rig, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct rig *r = rig;
    struct node_io *io;

    if (call != FAKE_RESIZE)
        return 0;
    g_assert_cmpint(node_io_open(disk_node(r->disk), true, false, NULL, &io, NULL), ==, 0);
    g_assert_cmpuint(node_io_info(io)->size, ==, 1 * MIB);
    node_io_close(io);
    return -ENOSPC;
}

static void test_size_while_growing(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    g_autoptr(GError) error = NULL;

    fake_backend_set_hook(r->backend, refuse_to_grow, r);
    g_assert_cmpint(disk_resize(r->disk, 2 * MIB, &error), ==, -1);
    g_assert_nonnull(error);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_RESIZE), ==, 1);
    g_assert_cmpuint(disk_size(r->disk), ==, 1 * MIB);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/found/merge-of-coarser-bitmap", test_merge_of_coarser_bitmap);
    g_test_add_func("/found/size-while-growing", test_size_while_growing);
    return g_test_run();
}
