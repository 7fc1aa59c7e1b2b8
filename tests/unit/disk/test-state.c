/* SPDX-License-Identifier: BSD-3-Clause */
/* What instants ask of a store that keeps bitmaps over a restart, in which order, on which thread, and
 * what is left when it fails. */
#include "common/util/error.h"
#include "tests/rigs/disk-harness.h"
#include "tests/rigs/fake-store-bitmaps.h"

static void add(struct fake_store *s, struct instant *i, const char *name, bool recording,
                bool persistent)
{
    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, name, 4096, recording, persistent, NULL),
                    ==, 0);
}

static void test_order(void)
{
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();

    add(s, i, "a", true, true);
    add(s, i, "b", false, true);
    commit_instant(i);
    assert_store_heard(s, "new; new; attach 0; attach 0; prepare a=0 b=0!; commit; end; ");

    rig_fill(s->rig, 0, 4096, 'x');
    i = instant_new();
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "a", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, d, "a", NULL), ==, 0);
    commit_instant(i);
    assert_store_heard(s, "new; new; attach 0; attach 0; prepare a=0 b=4096!; commit; end; ");

    i = instant_new();
    g_assert_cmpint(instant_bitmap_remove(i, d, "a", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, d, "b", true, NULL), ==, 0);
    commit_instant(i);
    assert_store_heard(s, "new; attach 0; prepare -a b=4096; commit; end; ");
    g_assert_cmpuint(s->bits, ==, 1);

    g_assert_cmpint(disk_resize(d, 2 * MIB, NULL), ==, 0);
    assert_store_heard(s, "resize 2097152; new; attach 1048576; prepare b=1052672; commit; end; ");
    g_assert_cmpuint(s->bits, ==, 1);
    fake_store_free(s);
}

static void assert_as_before(struct fake_store *s)
{
    struct disk *d = s->rig->disk;
    g_autoptr(GPtrArray) bitmaps = disk_bitmaps(d);
    struct dirty_bitmap_info info;

    g_assert_cmpuint(bitmaps->len, ==, 1);
    dirty_bitmap_info(bitmaps->pdata[0], &info);
    g_assert_false(info.busy);
    g_assert_cmpuint(s->bits, ==, 1);
    g_assert_cmpuint(d->tracker->n, ==, 1);
    g_assert_cmpuint(disk_size(d), ==, 1 * MIB);
    g_assert_cmpuint(fake_backend_size(s->rig->backend), ==, 1 * MIB);
    g_assert_cmpuint(s->transactions, ==, 0);
    g_assert_null(d->newest);
    g_assert_false(disk_in_instant(d));
}

static struct fake_store *store_with_bitmap(void)
{
    struct fake_store *s = fake_store_new();
    struct instant *i = instant_new();

    add(s, i, "a", true, true);
    commit_instant(i);
    fake_store_forget(s);
    return s;
}

/* An instant with a merge, so that there are shadows to take back. */
static struct instant *merge_into_new(struct fake_store *s)
{
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();

    add(s, i, "b", true, true);
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "a", NULL), ==, 0);
    return i;
}

/* If the store cannot prepare, nothing has changed, and nothing is left behind. */
static void test_prepare_fails(void)
{
    struct fake_store *s = store_with_bitmap();

    s->fails = FAIL_PREPARE;
    assert_commit_fails(merge_into_new(s), "disk full");
    assert_store_heard(s, "new; attach 0; prepare a=0 b=0; ");
    assert_as_before(s);
    g_assert_cmpint(disk_resize(s->rig->disk, 2 * MIB, NULL), ==, -1);
    assert_store_heard(s, "resize 2097152; new; attach 1048576; prepare a=1048576; cancel; ");
    assert_as_before(s);
    s->fails = 0;
    rig_fill(s->rig, 0, 4096, 'x');
    commit_instant(merge_into_new(s));
    assert_store_heard(s, "new; attach 0; prepare a=4096 b=4096; commit; end; ");
    fake_store_free(s);
}

static void test_bits_fail(void)
{
    struct fake_store *s = store_with_bitmap();
    struct instant *i = instant_new();
    GError *error = NULL;

    s->fails = FAIL_BITS;
    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, "b", 4096, true, true, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "disk vda: bitmap b: no room");
    g_error_free(error);
    instant_abort(i);
    assert_store_heard(s, "new; ");
    assert_as_before(s);

    s->fails = FAIL_ATTACH;
    assert_commit_fails(merge_into_new(s), "disk vda: bitmap b: no file");
    assert_store_heard(s, "new; attach 0; ");
    assert_as_before(s);
    fake_store_free(s);
}

/* If writes under way do not end, a store that has prepared hears of it, and never commits. */
static void test_drain_times_out(void)
{
    struct fake_store *s = store_with_bitmap();
    struct instant *i = instant_new();
    GThread *writer;

    park_arm(s->rig, POINT_WRITE_MARKED, 0);
    writer = rig_fill_thread(s->rig, 0, 4096, 'x');
    park_wait(s->rig);
    s->rig->disk->drain_usec = 0;
    add(s, i, "b", true, true);
    assert_commit_fails(i, "disk vda: writes under way did not end within 0 s");
    assert_store_heard(s, "new; attach 0; prepare a=4096 b=0; end without; ");
    assert_as_before(s);
    park_release(s->rig);
    g_thread_join(writer);
    fake_store_free(s);
}

/* ---- users of an instant ---- */

static int user_prepares(void *opaque, GError **err)
{
    struct fake_store *s = opaque;

    g_string_append(s->calls, "user; ");
    return s->fails == FAIL_BITS ? fail(err, "the user cannot") : 0;
}

static void note_commit(void *opaque)
{
    struct fake_store *s = opaque;

    g_assert_false(disk_in_instant(s->rig->disk));
    g_string_append(s->calls, "committed; ");
}

static void note_abort(void *opaque)
{
    struct fake_store *s = opaque;

    g_assert_false(disk_in_instant(s->rig->disk));
    g_string_append(s->calls, "aborted; ");
}

static void note_end(void *opaque)
{
    g_string_append(((struct fake_store *)opaque)->calls, "ended; ");
}

static struct instant *used_instant(struct fake_store *s)
{
    struct instant *i = instant_new();

    instant_on_end(i, note_end, s);
    instant_on_abort(i, note_abort, s);
    instant_on_commit(i, note_commit, s);
    instant_on_prepare(i, user_prepares, s);
    g_assert_cmpint(instant_bitmap_remove(i, s->rig->disk, "a", NULL), ==, 0);
    return i;
}

static void test_users(void)
{
    struct fake_store *s = store_with_bitmap();

    instant_abort(used_instant(s));
    assert_store_heard(s, "aborted; ended; ");
    s->fails = FAIL_BITS;
    assert_commit_fails(used_instant(s), "the user cannot");
    assert_store_heard(s, "user; aborted; ended; ");
    assert_as_before(s);
    s->fails = FAIL_PREPARE;
    assert_commit_fails(used_instant(s), "disk full");
    assert_store_heard(s, "user; prepare -a; aborted; ended; ");
    s->fails = FAIL_COMMIT;
    assert_commit_fails(used_instant(s), "catalogue broken");
    assert_store_heard(s, "user; prepare -a; commit; end without; aborted; ended; ");
    assert_as_before(s);
    s->fails = 0;
    commit_instant(used_instant(s));
    assert_store_heard(s, "user; prepare -a; commit; end; committed; ended; ");
    fake_store_free(s);
}

/* The store may know less than the disk: then a bitmap comes back as good. So it gets all writes. */
static void test_inconsistent_records(void)
{
    struct fake_store *s = fake_store_new();
    struct instant *i = instant_new();
    struct dirty_bitmap *db;
    struct bitmap *bits;

    add(s, i, "a", true, true);
    commit_instant(i);
    disk_bitmaps_broken(s->rig->disk, NULL, "failed");
    i = instant_new();
    add(s, i, "of-no-concern", true, false);
    commit_instant(i);
    rig_fill(s->rig, 0, 4096, 'x');
    db = disk_find_bitmap(s->rig->disk, "a");
    bits = dirty_bitmap_bits(db);
    g_assert_cmpuint(bitmap_count(bits), ==, 4096);
    bitmap_unref(bits);
    dirty_bitmap_unref(db);
    fake_store_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state/order", test_order);
    g_test_add_func("/state/prepare-fails", test_prepare_fails);
    g_test_add_func("/state/bits-fail", test_bits_fail);
    g_test_add_func("/state/drain-times-out", test_drain_times_out);
    g_test_add_func("/state/users", test_users);
    g_test_add_func("/state/inconsistent-records", test_inconsistent_records);
    return g_test_run();
}
