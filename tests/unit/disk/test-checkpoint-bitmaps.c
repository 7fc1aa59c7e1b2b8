/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps that belong to checkpoints: they record as others, but users' actions do not change them. */
#include "tests/rigs/fake-store.h"

#include <string.h>

static void commit(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

static void add(struct disk *d, const char *name, bool persistent)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, d, name, 4096, persistent, NULL), ==, 0);
    commit(i);
}

#define assert_refused(text, call)                                                                 \
    do {                                                                                           \
        g_autoptr(GError) why = NULL;                                                              \
        struct instant *refusing = instant_new();                                                  \
                                                                                                   \
        g_assert_cmpint(call, ==, -1);                                                             \
        g_assert_cmpstr(why->message, ==, text);                                                   \
        instant_abort(refusing);                                                                   \
    } while (0)

/* All that users can do to a bitmap. */
static void assert_all_refused(struct disk *d, const char *name, const char *message)
{
    assert_refused(message, instant_bitmap_remove(refusing, d, name, &why));
    assert_refused(message, instant_bitmap_clear(refusing, d, name, &why));
    assert_refused(message, instant_bitmap_record(refusing, d, name, false, &why));
    assert_refused(message, instant_bitmap_record(refusing, d, name, true, &why));
    assert_refused(message, instant_bitmap_set_persistence(refusing, d, name, false, &why));
    assert_refused(message, instant_bitmap_merge(refusing, d, name, d, "user", &why));
}

static bool is_readonly(struct disk *d, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(d, name);
    struct dirty_bitmap_info info;

    dirty_bitmap_info(db, &info);
    dirty_bitmap_unref(db);
    return info.readonly;
}

static const char readonly[] = "Bitmap 'check' is readonly and cannot be modified";

static void test_readonly(void)
{
    struct rig *r = rig_new(1 * MIB, 0);

    rig_bitmap(r, "user", 4096);
    add(r->disk, "check", false);
    g_assert_true(is_readonly(r->disk, "check"));
    g_assert_false(is_readonly(r->disk, "user"));
    assert_all_refused(r->disk, "check", readonly);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpuint(rig_count(r, "check"), ==, 4096);
    rig_free(r);
}

/* The action that adds it comes first in the same transaction. */
static void test_readonly_at_once(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "check", 0, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "check", &error), ==, -1);
    g_assert_cmpstr(error->message, ==, readonly);
    instant_abort(i);
    assert_refused("Granularity must be power of 2 and at least 512",
                   instant_checkpoint_bitmap_add(refusing, r->disk, "check", 7, false, &why));
    rig_free(r);
}

/* Busy is told before readonly, and that before inconsistent, as QEMU does. */
static void test_order_of_checks(void)
{
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct dirty_bitmap *db;

    rig_bitmap(s->rig, "user", 4096);
    add(d, "check", true);
    disk_bitmaps_broken(d, NULL, "broken");
    assert_all_refused(d, "check", readonly);
    db = disk_find_bitmap(d, "check");
    dirty_bitmap_busy_begin(db);
    assert_all_refused(
        d, "check", "Bitmap 'check' is currently in use by another operation and cannot be used");
    assert_refused("Bitmap 'check' is currently in use by another operation and cannot be used",
                   instant_checkpoint_bitmap_remove(refusing, d, "check", &why));
    dirty_bitmap_busy_end(db);
    dirty_bitmap_unref(db);
    fake_store_free(s);
}

static void test_remove(void)
{
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct instant *i;

    add(d, "check", true);
    disk_bitmaps_broken(d, NULL, "broken");
    i = instant_new();
    g_assert_cmpint(instant_checkpoint_bitmap_remove(i, d, "check", NULL), ==, 0);
    commit(i);
    g_assert_null(disk_find_bitmap(d, "check"));
    assert_refused("Dirty bitmap 'check' not found",
                   instant_checkpoint_bitmap_remove(refusing, d, "check", &why));
    fake_store_free(s);
}

static void test_merge_from(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();

    add(r->disk, "check", false);
    rig_fill(r, 8192, 4096, 'a');
    rig_bitmap(r, "user", 4096);
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "user", r->disk, "check", NULL), ==, 0);
    commit(i);
    g_assert_cmpuint(rig_count(r, "user"), ==, 4096);
    rig_free(r);
}

/* What grows is dirty in it, too. */
static void test_resize(void)
{
    struct rig *r = rig_new(1 * MIB, 0);

    add(r->disk, "check", false);
    g_assert_cmpint(disk_resize(r->disk, 2 * MIB, NULL), ==, 0);
    g_assert_cmpuint(rig_count(r, "check"), ==, 1 * MIB);
    g_assert_true(is_readonly(r->disk, "check"));
    rig_free(r);
}

/* One that the store has found. */
static void test_found(void)
{
    struct disk_restored found = {.name = "check", .granularity = 4096, .recording = true};
    struct fake_store *s;

    found.bits = bitmap_new(1 * MIB, 4096, NULL);
    s = fake_store_new_with(&found, 1);
    g_assert_false(disk_bitmap_set_readonly(s->rig->disk, "other"));
    g_assert_true(disk_bitmap_set_readonly(s->rig->disk, "check"));
    g_assert_true(is_readonly(s->rig->disk, "check"));
    assert_refused(readonly, instant_bitmap_clear(refusing, s->rig->disk, "check", &why));
    fake_store_free(s);
    bitmap_unref(found.bits);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/checkpoint-bitmaps/readonly", test_readonly);
    g_test_add_func("/checkpoint-bitmaps/readonly-at-once", test_readonly_at_once);
    g_test_add_func("/checkpoint-bitmaps/order-of-checks", test_order_of_checks);
    g_test_add_func("/checkpoint-bitmaps/remove", test_remove);
    g_test_add_func("/checkpoint-bitmaps/merge-from", test_merge_from);
    g_test_add_func("/checkpoint-bitmaps/resize", test_resize);
    g_test_add_func("/checkpoint-bitmaps/found", test_found);
    return g_test_run();
}
