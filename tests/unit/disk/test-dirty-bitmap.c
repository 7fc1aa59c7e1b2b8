/* SPDX-License-Identifier: BSD-3-Clause */
/* A dirty bitmap by itself: what its extents say, who uses it, what an instant replaces. */
#include "tests/rigs/disk-harness.h"

#include <errno.h>

static struct dirty_bitmap *make(uint64_t size)
{
    return dirty_bitmap_new("b", bitmap_new(size, 65536, NULL), true);
}

static void expect(const struct extents *e, size_t i, uint64_t length, uint32_t flags)
{
    g_assert_cmpuint(i, <, e->count);
    g_assert_cmpuint(e->list[i].length, ==, length);
    g_assert_cmpuint(e->list[i].flags, ==, flags);
}

/* The extents are dirty and clean in turn, from any offset to the end of the request. What lies
 * behind the end of the bits is dirty: the disk has grown by it meanwhile. */
static void test_extents(void)
{
    struct dirty_bitmap *db = make(1 * MIB);
    struct bitmap *bits = dirty_bitmap_bits(db);
    struct extents e = EXTENTS_INIT;

    bitmap_set(bits, 128 * KIB, 1);
    bitmap_set(bits, 1 * MIB - 1, 1);
    g_assert_cmpint(dirty_bitmap_extents(db, 2 * MIB, 0, false, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 4);
    expect(&e, 0, 128 * KIB, 0);
    expect(&e, 1, 64 * KIB, EXTENT_DIRTY);
    expect(&e, 2, 768 * KIB, 0);
    expect(&e, 3, 64 * KIB + 1 * MIB, EXTENT_DIRTY);
    extents_clear(&e);
    g_assert_cmpint(dirty_bitmap_extents(db, 700 * KIB, 100 * KIB, false, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 3);
    expect(&e, 0, 28 * KIB, 0);
    expect(&e, 2, 700 * KIB - 28 * KIB - 64 * KIB, 0);
    extents_clear(&e);
    g_assert_cmpint(dirty_bitmap_extents(db, 1 * MIB, 1 * MIB, false, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    expect(&e, 0, 1 * MIB, EXTENT_DIRTY);
    for (uint64_t at = 100 * KIB; at <= 150 * KIB; at += 50 * KIB) {
        extents_clear(&e);
        g_assert_cmpint(dirty_bitmap_extents(db, 700 * KIB, at, true, &e), ==, 0);
        g_assert_cmpuint(e.count, ==, 1);
        g_assert_cmpuint(e.total, ==, at < 128 * KIB ? 28 * KIB : 42 * KIB);
    }
    extents_free(&e);
    bitmap_unref(bits);
    dirty_bitmap_unref(db);
}

/* A bitmap with two users is busy until both have gone. */
static void test_busy(void)
{
    struct dirty_bitmap *db = make(1 * MIB);
    struct dirty_bitmap_info info;

    dirty_bitmap_busy_begin(db);
    dirty_bitmap_busy_begin(db);
    dirty_bitmap_busy_end(db);
    dirty_bitmap_info(db, &info);
    g_assert_true(info.busy);
    dirty_bitmap_busy_end(db);
    dirty_bitmap_info(db, &info);
    g_assert_false(info.busy);
    dirty_bitmap_unref(db);
}

/* The bits can be replaced and removed. Whoever still holds the old bits keeps them. */
static void test_replace(void)
{
    struct dirty_bitmap *db = make(1 * MIB);
    struct bitmap *old = dirty_bitmap_bits(db), *given;
    struct dirty_bitmap_info info;
    struct extents e = EXTENTS_INIT;

    bitmap_set(old, 0, 1);
    given = dirty_bitmap_replace(db, bitmap_new(1 * MIB, 65536, NULL), false, false, NULL);
    g_assert_true(given == old);
    bitmap_unref(given);
    dirty_bitmap_info(db, &info);
    g_assert_false(info.recording);
    g_assert_cmpuint(info.count, ==, 0);
    g_assert_cmpuint(bitmap_count(old), ==, 65536);
    bitmap_unref(old);
    bitmap_unref(dirty_bitmap_replace(db, NULL, false, false, NULL));
    g_assert_null(dirty_bitmap_bits(db));
    g_assert_cmpint(dirty_bitmap_extents(db, 1 * MIB, 0, false, &e), ==, -EIO);
    dirty_bitmap_info(db, &info);
    g_assert_cmpuint(info.count, ==, 0);
    dirty_bitmap_unref(db);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-bitmap/extents", test_extents);
    g_test_add_func("/dirty-bitmap/busy", test_busy);
    g_test_add_func("/dirty-bitmap/replace", test_replace);
    return g_test_run();
}
