/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps of a disk with a store: those that it has found, and those that move. */
#include "tests/rigs/fake-store-bitmaps.h"

#include <errno.h>

/* ---- what the store has found ---- */

static const char lost[] = "its file is lost";

/* "good" records and "still" does not; "lost" would, and has no bits. */
static struct fake_store *restored(struct bitmap *bits[static 2])
{
    bits[0] = bitmap_new(1 * MIB, 4096, NULL);
    bits[1] = bitmap_new(1 * MIB, 65536, NULL);
    bitmap_set(bits[0], 8192, 1);
    bitmap_set(bits[1], 0, 1);
    return fake_store_new_with(
        (const struct disk_restored[]){
            {"good", bits[0], 4096, true, NULL},
            {"still", bits[1], 65536, false, NULL},
            {"lost", NULL, 4096, true, lost},
        },
        3);
}

static void end_restored(struct fake_store *s, struct bitmap *bits[static 2])
{
    fake_store_free(s);
    bitmap_unref(bits[0]);
    bitmap_unref(bits[1]);
}

static void test_restored(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);

    g_assert_true(disk_has_store(s->rig->disk));
    rig_fill(s->rig, 0, 4096, 'x');
    assert_stored(s, "good", 8192, true, true, NULL);
    assert_stored(s, "still", 65536, false, true, NULL);
    assert_stored(s, "lost", 0, false, true, lost);
    assert_stored_no_extents(s, "lost");
    end_restored(s, bits);
}

static void test_inconsistent_is_refused(void)
{
    static const char why[] = "Bitmap 'lost' is inconsistent and cannot be used: its file is lost";
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();
    GError *error = NULL;

    assert_refused(instant_bitmap_record(i, d, "lost", false, &error), &error, why);
    assert_refused(instant_bitmap_merge(i, d, "good", d, "lost", &error), &error, why);
    assert_refused(instant_bitmap_merge(i, d, "lost", d, "good", &error), &error, why);
    assert_refused(instant_bitmap_merge(i, d, "lost", d, "lost", &error), &error, why);
    assert_refused(instant_bitmap_set_persistence(i, d, "lost", false, &error), &error, why);
    instant_abort(i);
    assert_stored(s, "lost", 0, false, true, lost);
    end_restored(s, bits);
}

/* It begins anew, and records if it did. */
static void test_clear_makes_good(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);

    stored_clear(s, "lost");
    assert_store_heard(s, "new; attach 0; prepare good=4096 still=65536! lost=0; commit; end; ");
    assert_stored(s, "lost", 0, true, true, NULL);
    rig_fill(s->rig, 0, 4096, 'x');
    assert_stored(s, "lost", 4096, true, true, NULL);
    end_restored(s, bits);
}

/* Once it has been cleared within an instant, all can be done with it. */
static void test_clear_and_use(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_clear(i, d, "lost", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, d, "lost", d, "good", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, d, "lost", false, NULL), ==, 0);
    commit_instant(i);
    assert_stored(s, "lost", 4096, false, true, NULL);
    end_restored(s, bits);
}

static void test_remove_inconsistent(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_remove(i, s->rig->disk, "lost", NULL), ==, 0);
    commit_instant(i);
    assert_store_heard(s, "prepare -lost good=4096 still=65536!; commit; end; ");
    g_assert_null(disk_find_bitmap(s->rig->disk, "lost"));
    end_restored(s, bits);
}

/* An instant that is about others, or a resize, leaves it as it is. With a resize it gets bits, which
 * nobody trusts. */
static void test_inconsistent_is_carried_along(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);

    stored_clear(s, "still");
    assert_store_heard(s, "new; attach 0; prepare good=4096 still=0!; commit; end; ");
    assert_stored(s, "lost", 0, false, true, lost);
    g_assert_cmpint(disk_resize(s->rig->disk, 2 * MIB, NULL), ==, 0);
    assert_stored(s, "lost", 0, false, true, lost);
    assert_stored(s, "good", 4096 + 1 * MIB, true, true, NULL);
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 0);
    stored_clear(s, "lost");
    rig_fill(s->rig, 2 * MIB - 4096, 4096, 'x');
    assert_stored(s, "lost", 4096, true, true, NULL);
    end_restored(s, bits);
}

/* ---- instants that do not concern the store ---- */

static void break_when_closed(struct rig *r, enum disk_point point)
{
    if (point == POINT_GATES_CLOSED)
        disk_bitmaps_broken(r->disk, NULL, "while closed");
}

/* They do not wait for it, and leave persistent bitmaps alone. */
static void test_store_is_not_asked(void)
{
    const struct view_options options = {0};
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();

    s->fails = FAIL_PREPARE;
    g_assert_cmpint(instant_view_create(i, d, "v", &options, NULL, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_add(i, d, "t", 4096, true, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, d, "t", d, "good", NULL), ==, 0);
    commit_instant(i);
    g_assert_cmpuint(d->tracker->n, ==, 2);
    assert_stored(s, "good", 4096, true, true, NULL);
    assert_stored(s, "lost", 0, false, true, lost);
    assert_stored(s, "t", 4096, true, false, NULL);

    i = instant_new();
    s->rig->visit = break_when_closed;
    g_assert_cmpint(instant_view_create(i, d, "w", &options, NULL, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, d, "t", d, "still", NULL), ==, 0);
    commit_instant(i);
    s->rig->visit = NULL;
    assert_store_heard(s, "");
    assert_stored(s, "good", 0, false, true, "while closed");
    assert_stored(s, "t", 0, false, false, "while closed"); /* it was made from one of these */
    end_restored(s, bits);
}

/* ---- persistence ---- */

static void set_persistence(struct fake_store *s, const char *name, bool persistent)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_set_persistence(i, s->rig->disk, name, persistent, NULL), ==, 0);
    commit_instant(i);
}

static void write_at_points(struct rig *r, enum disk_point point)
{
    if (point == POINT_SHADOWED || point == POINT_FLIPPED)
        rig_fill(r, point == POINT_SHADOWED ? 64 * KIB : 128 * KIB, 4096, 'p');
}

static void test_persistence(void)
{
    struct fake_store *s = fake_store_new();

    stored_add(s, "b", true, false);
    rig_fill(s->rig, 0, 4096, 'x');
    assert_stored(s, "b", 4096, true, false, NULL);
    s->rig->visit = write_at_points;
    set_persistence(s, "b", true);
    assert_store_heard(s, "new; attach 0; prepare b=8192; commit; end; ");
    assert_stored(s, "b", 12288, true, true, NULL);
    set_persistence(s, "b", true); /* nothing to do */
    assert_store_heard(s, "prepare b=12288; commit; end; ");
    set_persistence(s, "b", false);
    assert_store_heard(s, "prepare b=12288~; commit; end; ");
    s->rig->visit = NULL;
    assert_stored(s, "b", 12288, true, false, NULL);
    g_assert_cmpuint(s->bits, ==, 0);
    fake_store_free(s);
}

/* One that is added, or cleared, and changes its kind within the same instant. */
static void test_persistence_of_new_bits(void)
{
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, d, "b", 4096, true, true, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_set_persistence(i, d, "b", false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_add(i, d, "c", 4096, false, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_set_persistence(i, d, "c", true, NULL), ==, 0);
    commit_instant(i);
    rig_fill(s->rig, 0, 4096, 'x');
    assert_stored(s, "b", 4096, true, false, NULL);
    assert_stored(s, "c", 0, false, true, NULL);
    g_assert_cmpuint(s->bits, ==, 1);
    i = instant_new();
    g_assert_cmpint(instant_bitmap_clear(i, d, "b", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_set_persistence(i, d, "b", true, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "c", NULL), ==, 0);
    commit_instant(i);
    assert_stored(s, "b", 0, true, true, NULL);
    fake_store_free(s);
}

static void test_no_store(void)
{
    static const char why[] = "disk vda: it has no state folder for persistent bitmaps";
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    GError *error = NULL;

    g_assert_false(disk_has_store(r->disk));
    rig_bitmap(r, "b", 4096);
    assert_refused(instant_bitmap_add(i, r->disk, "c", 4096, true, true, &error), &error, why);
    assert_refused(instant_bitmap_set_persistence(i, r->disk, "b", true, &error), &error, why);
    g_assert_cmpint(instant_bitmap_set_persistence(i, r->disk, "b", false, NULL), ==, 0);
    instant_abort(i);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state-bitmaps/restored", test_restored);
    g_test_add_func("/state-bitmaps/inconsistent/refused", test_inconsistent_is_refused);
    g_test_add_func("/state-bitmaps/inconsistent/clear", test_clear_makes_good);
    g_test_add_func("/state-bitmaps/inconsistent/clear-and-use", test_clear_and_use);
    g_test_add_func("/state-bitmaps/inconsistent/remove", test_remove_inconsistent);
    g_test_add_func("/state-bitmaps/inconsistent/others", test_inconsistent_is_carried_along);
    g_test_add_func("/state-bitmaps/not-asked", test_store_is_not_asked);
    g_test_add_func("/state-bitmaps/persistence", test_persistence);
    g_test_add_func("/state-bitmaps/persistence/new", test_persistence_of_new_bits);
    g_test_add_func("/state-bitmaps/persistence/no-store", test_no_store);
    return g_test_run();
}
