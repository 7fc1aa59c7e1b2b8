/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants that are run step by step. The thread that runs them never waits: it hears when there is
 * something to do, and can do other things meanwhile.
 */
#include "tests/rigs/instant-rig.h"

/* ---- draining ---- */

static void at_flip(void *opaque)
{
    struct rig *rig = opaque;

    g_assert_true(atomic_load(&rig->disk->gate.closed));
    rig->visitor = rig; /* it was called */
}

/* Another disk's instants go on while this one waits, and the last writer that leaves says so. */
static void test_waits_for_writes(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b"), *other = named_rig("other");
    GThread *in_a = rig_park_writer(a), *in_b = rig_park_writer(b);
    struct run *r = run_new();
    gint64 now = g_get_monotonic_time();

    run_add_bitmap(r, a, "x");
    run_add_bitmap(r, b, "x");
    g_assert_cmpint(instant_at_flip(r->instant, b->disk, at_flip, b, NULL), ==, 0);
    run_start(r);
    assert_run_waits(r, "disk a: writes under way");
    g_assert_cmpint(instant_deadline(r->instant), >=, now + RUN_LIMIT);
    g_assert_cmpint(instant_deadline(r->instant), <, G_MAXINT64);
    assert_disk_works(other);
    assert_disk_refuses(a);
    rig_let_go(a, in_a);
    g_assert_cmpuint(run_wakes(r), ==, 0);
    run_step(r); /* a step too many does no harm */
    assert_run_waits(r, "disk b: writes under way");
    g_assert_null(b->visitor);
    rig_let_go(b, in_b);
    run_go_on(r);
    g_assert_true(b->visitor == b);
    g_assert_cmpuint(run_wakes(r), ==, 1);
    assert_run_done(r);
    assert_disk_works(a);
    rig_free(a);
    rig_free(b);
    rig_free(other);
}

static void assert_untouched(struct rig *rig)
{
    g_autoptr(GPtrArray) bitmaps = disk_bitmaps(rig->disk);

    g_assert_false(atomic_load(&rig->disk->gate.closed));
    g_assert_cmpuint(bitmaps->len, ==, 0);
    rig_fill(rig, 8192, 4096, 'y');
}

/* At its deadline an instant opens all gates. Nobody is told later that writes have ended. */
static void test_out_of_time(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b");
    GThread *in_b = rig_park_writer(b);
    struct run *r = run_new();

    b->disk->drain_usec = 0;
    run_add_bitmap(r, a, "x");
    run_add_bitmap(r, b, "x");
    instant_start(r->instant, run_wake, r);
    run_step(r);
    g_assert_cmpuint(run_wakes(r), ==, 0);
    assert_run_failed(r, "disk b: writes under way did not end within 0 s");
    assert_untouched(a);
    assert_untouched(b);
    b->disk->drain_usec = RUN_LIMIT;
    r = run_new();
    run_add_bitmap(r, b, "x");
    run_start(r);
    assert_run_waits(r, "disk b: writes under way");
    rig_let_go(b, in_b);
    run_go_on(r);
    g_assert_cmpuint(run_wakes(r), ==, 1);
    assert_run_done(r);
    rig_free(a);
    rig_free(b);
}

static void test_cancel_while_draining(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b");
    GThread *in_b = rig_park_writer(b);
    struct run *r = run_new();

    run_add_bitmap(r, a, "x");
    run_add_bitmap(r, b, "x");
    run_start(r);
    instant_cancel(r->instant);
    run_step(r);
    assert_run_failed(r, "disk b: given up while writes were under way");
    assert_untouched(a);
    assert_untouched(b);
    rig_let_go(b, in_b);
    assert_disk_works(b);
    rig_free(a);
    rig_free(b);
}

/* An export takes a bitmap while its removal waits. */
static void test_busy_meanwhile(void)
{
    struct rig *a = named_rig("a");
    struct run *r = run_new();
    struct dirty_bitmap *x;
    GThread *in_a;

    run_add_bitmap(r, a, "x");
    run_start(r);
    assert_run_done(r);
    for (int changed = 0; changed < 2; changed++) {
        in_a = rig_park_writer(a);
        r = run_new();
        if (changed)
            g_assert_cmpint(instant_bitmap_record(r->instant, a->disk, "x", false, NULL), ==, 0);
        else
            g_assert_cmpint(instant_bitmap_remove(r->instant, a->disk, "x", NULL), ==, 0);
        run_start(r);
        x = disk_find_bitmap(a->disk, "x");
        dirty_bitmap_busy_begin(x);
        rig_let_go(a, in_a);
        run_go_on(r);
        assert_run_failed(r,
                          "Bitmap 'x' is currently in use by another operation and cannot be used");
        dirty_bitmap_busy_end(x);
        dirty_bitmap_unref(x);
    }
    rig_fill(a, 8192, 4096, 'y');
    g_assert_cmpuint(rig_count(a, "x"), ==, 8192);
    rig_free(a);
}

/* An export takes a view while its deletion waits. */
static void test_view_in_use_meanwhile(void)
{
    struct rig *a = named_rig("a");
    struct view *v = rig_view(a, "v", CBW_BREAK_SNAPSHOT, 0);
    GThread *in_a = rig_park_writer(a);
    struct run *r = run_new();

    g_assert_cmpint(instant_view_delete(r->instant, v, NULL), ==, 0);
    run_start(r);
    view_use_begin(v);
    rig_let_go(a, in_a);
    assert_run_failed(r, "Node v is in use");
    view_use_end(v);
    rig_delete(a, v);
    assert_disk_works(a);
    rig_free(a);
}

/* ---- long work ---- */

static struct run *run_merge(struct rig *a)
{
    struct run *r = run_new();

    run_add_bitmap(r, a, "from");
    run_add_bitmap(r, a, "to");
    run_start(r);
    assert_run_done(r);
    rig_fill(a, 0, 4096, 'a');
    r = run_new();
    g_assert_cmpint(instant_bitmap_clear(r->instant, a->disk, "to", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(r->instant, a->disk, "to", a->disk, "from", NULL), ==, 0);
    park_arm(a, POINT_SHADOWED, 0);
    run_start(r);
    park_wait(a);
    return r;
}

/* A thread copies bits while the gates are open. */
static void test_copies_elsewhere(void)
{
    struct rig *a = named_rig("a"), *other = named_rig("other");
    struct run *r = run_merge(a);

    assert_run_waits(r, "disk a: bits are being copied");
    g_assert_cmpint(instant_deadline(r->instant), ==, G_MAXINT64);
    rig_fill(a, 8192, 4096, 'b');
    assert_disk_works(other);
    assert_disk_refuses(a);
    park_release(a);
    assert_run_done(r);
    g_assert_cmpuint(rig_count(a, "to"), ==, 8192);
    g_assert_cmpuint(a->disk->tracker->n, ==, 2);
    rig_free(a);
    rig_free(other);
}

static void test_cancel_while_copying(void)
{
    struct rig *a = named_rig("a");
    struct run *r = run_merge(a);

    instant_cancel(r->instant);
    run_step(r);
    assert_run_waits(r, "disk a: bits are being copied");
    g_assert_cmpuint(a->disk->tracker->n, ==, 3);
    park_release(a);
    assert_run_failed(r, "given up before its instant");
    g_assert_cmpuint(a->disk->tracker->n, ==, 2);
    g_assert_cmpuint(rig_count(a, "to"), ==, 4096);
    rig_fill(a, 8192, 4096, 'b');
    g_assert_cmpuint(rig_count(a, "from"), ==, 8192);
    assert_disk_works(a);
    rig_free(a);
}

static void count_visits(struct rig *r, enum disk_point point)
{
    if (point == POINT_BITS_COPYING || point == POINT_VIEW_TRIMMED)
        ++*(unsigned *)r->visitor;
}

/* Give an instant up when its work has come to this point for the first time. The piece that is
 * under way is the last. */
static void cancel_in_the_middle(struct rig *a, struct run *r, enum disk_point point)
{
    unsigned pieces = 0;

    a->visit = count_visits;
    a->visitor = &pieces;
    park_arm(a, point, ANYWHERE);
    run_start(r);
    park_wait(a);
    instant_cancel(r->instant);
    run_step(r);
    g_assert_cmpint(r->state, ==, INSTANT_WAITS);
    park_release(a);
    assert_run_failed(r, "given up before its instant");
    g_assert_cmpuint(pieces, ==, 1);
    a->visit = NULL;
}

/* A long copy ends soon when it is given up. */
static void test_cancel_a_long_copy(void)
{
    struct rig *a = rig_new(256 * MIB, 0);
    struct run *r = run_new();

    rig_bitmap(a, "from", 512);
    rig_bitmap(a, "to", 512);
    for (uint64_t at = 0; at < 256 * MIB; at += 16 * MIB)
        rig_fill(a, at, 4096, 'a');
    g_assert_cmpint(instant_bitmap_clear(r->instant, a->disk, "to", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(r->instant, a->disk, "to", a->disk, "from", NULL), ==, 0);
    cancel_in_the_middle(a, r, POINT_BITS_COPYING);
    g_assert_cmpuint(rig_count(a, "to"), ==, 16 * 4096);
    rig_free(a);
}

/* A deletion that hands much over ends as soon. The view is broken and keeps the rest for older
 * views, and it can be deleted again. */
static void test_cancel_a_long_hand_over(void)
{
    struct rig *a = rig_new(64 * MIB, 0);
    struct view *old, *new;
    struct run *r = run_new();
    struct view_info info;

    rig_fill(a, 0, 64 * MIB, 'a');
    old = rig_view(a, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(a, "new", CBW_BREAK_SNAPSHOT, 0);
    for (uint64_t at = 0; at < 64 * MIB; at += 16 * MIB)
        rig_fill(a, at, 4096, 'b');
    g_assert_cmpint(instant_view_delete(r->instant, new, NULL), ==, 0);
    cancel_in_the_middle(a, r, POINT_VIEW_TRIMMED);
    view_info(new, &info);
    g_assert_true(info.broken);
    g_assert_cmpuint(rig_kept(new), >, 0);
    assert_view(old, 0, 64 * MIB, 'a');
    rig_fill(a, 0, 64 * MIB, 'c');
    assert_view(old, 0, 64 * MIB, 'a');
    rig_delete(a, new);
    assert_view(old, 0, 64 * MIB, 'a');
    rig_free(a);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instant-run/waits-for-writes", test_waits_for_writes);
    g_test_add_func("/instant-run/out-of-time", test_out_of_time);
    g_test_add_func("/instant-run/cancel-while-draining", test_cancel_while_draining);
    g_test_add_func("/instant-run/busy-meanwhile", test_busy_meanwhile);
    g_test_add_func("/instant-run/view-in-use-meanwhile", test_view_in_use_meanwhile);
    g_test_add_func("/instant-run/copies-elsewhere", test_copies_elsewhere);
    g_test_add_func("/instant-run/cancel-while-copying", test_cancel_while_copying);
    g_test_add_func("/instant-run/cancel-a-long-copy", test_cancel_a_long_copy);
    g_test_add_func("/instant-run/cancel-a-long-hand-over", test_cancel_a_long_hand_over);
    return g_test_run();
}
