/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps that get what an image has allocated. */
#include "tests/rigs/fake-store.h"

#include <errno.h>
#include <string.h>

static void commit(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

static void populate(struct rig *r, const char *name)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_populate(i, r->disk, name, NULL), ==, 0);
    commit(i);
}

static bool is_dirty(struct rig *r, const char *name, uint64_t offset)
{
    struct dirty_bitmap *db = disk_find_bitmap(r->disk, name);
    struct extents e = EXTENTS_INIT;
    bool dirty;

    g_assert_cmpint(dirty_bitmap_extents(db, 1, offset, true, &e), ==, 0);
    dirty = e.list[0].flags & EXTENT_DIRTY;
    extents_free(&e);
    dirty_bitmap_unref(db);
    return dirty;
}

static void test_allocated(void)
{
    struct rig *r = rig_new(1 * MIB, 0);

    rig_fill(r, 0, 4096, 'a');
    rig_fill(r, 512 * KIB, 512, 'a');
    g_assert_cmpint(node_zero(r->io, 4096, 256 * KIB, 0), ==, 0);
    g_assert_cmpint(node_trim(r->io, 4096, 0, 0), ==, 0);
    rig_bitmap(r, "b", 4096);
    populate(r, "b");
    g_assert_false(is_dirty(r, "b", 0));
    g_assert_true(is_dirty(r, "b", 256 * KIB));
    g_assert_true(is_dirty(r, "b", 512 * KIB));
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    rig_fill(r, 768 * KIB, 4096, 'b');
    g_assert_cmpuint(rig_count(r, "b"), ==, 3 * 4096);
    rig_free(r);
}

/* What is a hole is not allocated, whatever it reads as. Zeroes that are no hole are allocated. */
static void test_zeroes(void)
{
    struct rig *r = rig_new(1 * MIB, 0);

    rig_bitmap(r, "b", 4096);
    fake_backend_set_holes(r->backend, EXTENT_HOLE, 'x');
    populate(r, "b");
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    fake_backend_set_holes(r->backend, EXTENT_ZERO, 0);
    populate(r, "b");
    g_assert_cmpuint(rig_count(r, "b"), ==, 1 * MIB);
    rig_free(r);
}

/* What it has stays dirty, also where it is a hole now. */
static void test_adds(void)
{
    struct rig *r = rig_new(1 * MIB, 0);

    rig_bitmap(r, "b", 4096);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpint(node_trim(r->io, 4096, 0, 0), ==, 0);
    populate(r, "b");
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_free(r);
}

static void test_pieces(void)
{
    struct rig *r = rig_new_blocks(1 * MIB, 0, 4096);

    fake_backend_set_most_extents(r->backend, 12 * KIB);
    rig_fill(r, 0, 4096, 'a');
    rig_fill(r, 1 * MIB - 4096, 4096, 'a');
    rig_bitmap(r, "b", 4096);
    populate(r, "b");
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    rig_free(r);
}

static void test_cannot_tell(void)
{
    struct fake_failure failure = {.call = FAKE_EXTENTS, .error = -EIO, .offset = 512 * KIB};
    struct backend *b = fake_backend_new(1 * MIB);
    struct rig *r;

    fake_backend_set_no_extents(b);
    r = rig_new_over(b, 0);
    rig_bitmap(r, "b", 4096);
    populate(r, "b");
    g_assert_cmpuint(rig_count(r, "b"), ==, 1 * MIB);
    rig_free(r);

    r = rig_new(1 * MIB, 0);
    fake_backend_set_most_extents(r->backend, 256 * KIB);
    fake_backend_fail(r->backend, &failure);
    rig_bitmap(r, "b", 4096);
    populate(r, "b");
    g_assert_false(is_dirty(r, "b", 512 * KIB - 1));
    g_assert_true(is_dirty(r, "b", 512 * KIB));
    g_assert_cmpuint(rig_count(r, "b"), ==, 512 * KIB);
    rig_free(r);
}

static void test_refused(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    GError *error = NULL;

    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "b", &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "Dirty bitmap 'b' not found");
    g_clear_error(&error);
    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "c", 0, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "c", &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "Bitmap 'c' is readonly and cannot be modified");
    g_clear_error(&error);
    instant_abort(i);
    rig_free(r);
}

/* ---- guests that write meanwhile ---- */

static void write_between(struct rig *r, enum disk_point point)
{
    if (point != POINT_BITS_COPYING || r->visitor)
        return;
    r->visitor = r;
    g_thread_join(rig_fill_thread(r, 0, 4096, 'w')); /* the image has told of this part already */
}

/* It has been allocated by the instant, whether the bitmap records or not, or is made just now. */
static void check_write_meanwhile(bool made_before, bool recording)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, r->disk, "b", 4096, recording, false, NULL), ==, 0);
    if (made_before) {
        commit(i);
        i = instant_new();
    }
    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "b", NULL), ==, 0);
    fake_backend_set_most_extents(r->backend, 256 * KIB);
    r->visit = write_between;
    commit(i);
    r->visit = NULL;
    g_assert_nonnull(r->visitor);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_fill(r, 512 * KIB, 4096, 'x');
    g_assert_cmpuint(rig_count(r, "b"), ==, recording ? 8192 : 4096);
    rig_free(r);
}

static void test_write_meanwhile(void)
{
    check_write_meanwhile(false, false);
    check_write_meanwhile(false, true);
    check_write_meanwhile(true, false);
    check_write_meanwhile(true, true);
}

static void cancel_between(struct rig *r, enum disk_point point)
{
    if (point == POINT_BITS_COPYING)
        instant_cancel(r->visitor);
}

static void test_cancelled(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    g_autoptr(GError) error = NULL;

    rig_fill(r, 0, 1 * MIB, 'a');
    rig_bitmap(r, "b", 4096);
    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "b", NULL), ==, 0);
    fake_backend_set_most_extents(r->backend, 4096);
    r->visitor = i;
    r->visit = cancel_between;
    g_assert_cmpint(instant_commit(i, &error), ==, -1);
    r->visit = NULL;
    g_assert_cmpstr(error->message, ==, "given up before its instant");
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_EXTENTS), ==, 1);
    rig_free(r);
}

/* ---- with a store ---- */

/* All of it is there when the store prepares, and only after it has got its file. */
static void test_store(void)
{
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct instant *i = instant_new();

    rig_fill(r, 0, 8192, 'a');
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "b", 4096, true, true, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "b", NULL), ==, 0);
    commit(i);
    assert_store_heard(s, "new; attach 0; prepare b=8192; commit; end; ");
    rig_fill(r, 16384, 4096, 'a');
    i = instant_new();
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "b", NULL), ==, 0);
    commit(i);
    fake_store_forget(s);
    populate(r, "b");
    assert_store_heard(s, "new; attach 0; prepare b=12288; commit; end; ");
    s->fails = FAIL_COMMIT;
    rig_fill(r, 32768, 4096, 'a');
    i = instant_new();
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "b", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "b", NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, -1);
    g_assert_cmpuint(rig_count(r, "b"), ==, 16384);
    fake_store_free(s);
}

/* Later actions see it. */
static void test_order_of_actions(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct freeze_options o = {.name = "f", .source = "b"};
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;
    struct dirty_bitmap_info info;

    rig_fill(r, 0, 8192, 'a');
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "b", 4096, true, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_populate(i, r->disk, "b", NULL), ==, 0);
    g_assert_cmpint(instant_freeze(i, r->disk, &o, &frozen, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "b", NULL), ==, 0);
    commit(i);
    dirty_bitmap_info(frozen, &info);
    g_assert_cmpuint(info.count, ==, 8192);
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    dirty_bitmap_unref(frozen);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/populate/allocated", test_allocated);
    g_test_add_func("/populate/zeroes", test_zeroes);
    g_test_add_func("/populate/adds", test_adds);
    g_test_add_func("/populate/pieces", test_pieces);
    g_test_add_func("/populate/cannot-tell", test_cannot_tell);
    g_test_add_func("/populate/refused", test_refused);
    g_test_add_func("/populate/write-meanwhile", test_write_meanwhile);
    g_test_add_func("/populate/cancelled", test_cancelled);
    g_test_add_func("/populate/store", test_store);
    g_test_add_func("/populate/order-of-actions", test_order_of_actions);
    return g_test_run();
}
