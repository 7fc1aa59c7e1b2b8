/* SPDX-License-Identifier: BSD-3-Clause */
/* TRIM of a view by its client: which blocks it removes, who gets them, and who waits meanwhile. */
#include "tests/rigs/disk-harness.h"

static void test_discard(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;
    struct node_io *io;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 16384, 'b');
    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    g_assert_true(node_io_info(io)->can_trim);
    g_assert_cmpint(node_trim(io, 16384 + 1, 4095, 0), ==, 0); /* whole blocks only: 1, 2, 3, 4 */
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    assert_view(v, 0, 4096, 'a');
    assert_view(v, 4096, 16384, 0);
    rig_fill(r, 16384, 8192, 'c'); /* block 4 was trimmed, block 5 not */
    g_assert_cmpuint(rig_kept(v), ==, 8192);
    assert_view(v, 20480, 64 * KIB - 20480, 'a');
    node_io_close(io);
    rig_free(r);
}

/* What the newer view's client drops, the older one still has. */
static void test_discard_hands_over(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;
    struct node_io *io;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 8192, 'c');
    g_assert_cmpint(node_io_open(view_node(new), false, true, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_trim(io, 64 * KIB, 0, 0), ==, 0);
    g_assert_cmpuint(rig_kept(new), ==, 0);
    g_assert_cmpuint(rig_kept(old), ==, 8192);
    rig_fill(r, 0, 64 * KIB, 'd'); /* nothing is kept for `new` any more, all for `old` */
    g_assert_cmpuint(rig_kept(new), ==, 0);
    assert_view(old, 0, 64 * KIB, 'a');
    assert_view(new, 0, 64 * KIB, 0);
    node_io_close(io);
    rig_free(r);
}

struct trimming {
    struct rig *rig;
    struct view *other;
    unsigned pieces;
};

static int delete_the_other(void *opaque, enum disk_point point, uint64_t offset)
{
    struct trimming *t = opaque;

    if (point != POINT_VIEW_TRIMMED)
        return 0;
    if (t->pieces++ == 0)
        rig_delete(t->rig, t->other);
    return 0;
}

/* A long TRIM of a view lets others work between its pieces: another view is deleted there. */
static void test_long_discard(void)
{
    const uint64_t size = 600 * MIB;
    struct rig *r = rig_new(size, 0);
    struct trimming t = {.rig = r};
    struct disk_hooks hooks = {.at = delete_the_other, .opaque = &t};
    struct view *v;
    struct node_io *io;

    t.other = rig_view(r, "other", CBW_BREAK_SNAPSHOT, 0);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 300 * MIB, 8192, 'b');
    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    r->disk->hooks = &hooks;
    g_assert_cmpint(node_trim(io, size - 4096, 0, 0), ==, 0);
    r->disk->hooks = &r->hooks;
    g_assert_cmpuint(t.pieces, >=, 2);
    g_assert_cmpuint(rig_kept(v), ==, 0);
    rig_fill(r, 0, 8192, 'c'); /* trimmed: not kept */
    rig_fill(r, size - 4096, 4096, 'c');
    g_assert_cmpuint(rig_kept(v), ==, 0); /* a hole */
    assert_view(v, 300 * MIB, 8192, 0);
    node_io_close(io);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view/discard", test_discard);
    g_test_add_func("/view/discard-hands-over", test_discard_hands_over);
    g_test_add_func("/view/long-discard", test_long_discard);
    return g_test_run();
}
