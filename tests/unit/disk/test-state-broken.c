/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps of a disk with a store that break, or whose file is lost. */
#include "tests/rigs/fake-store-bitmaps.h"

#include <errno.h>

/* ---- bitmaps that break ---- */

static void test_one_breaks(void)
{
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;

    stored_add(s, "a", true, true);
    stored_add(s, "b", true, true);
    disk_bitmaps_broken(d, stored_bits_at(s, "a"), "sync failed");
    disk_bitmaps_broken(d, stored_bits_at(s, "a"), "and again");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 1);
    g_assert_cmpstr(s->rig->inconsistent, ==, "vda/a: sync failed");
    assert_stored(s, "a", 0, false, true, "sync failed");
    assert_stored_no_extents(s, "a");
    assert_stored(s, "b", 0, true, true, NULL);
    stored_add(s, "c", true, false);
    assert_stored(s, "a", 0, false, true, "sync failed");
    stored_clear(s, "a");
    rig_fill(s->rig, 0, 4096, 'x');
    assert_stored(s, "a", 4096, true, true, NULL);
    fake_store_free(s);
}

static void test_all_break(void)
{
    struct fake_store *s = fake_store_new();

    stored_add(s, "a", true, true);
    stored_add(s, "b", false, true);
    stored_add(s, "c", true, false);
    disk_bitmaps_broken(s->rig->disk, NULL, "journal failed");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    assert_stored(s, "a", 0, false, true, "journal failed");
    assert_stored(s, "b", 0, false, true, "journal failed");
    assert_stored(s, "c", 0, true, false, NULL);
    fake_store_free(s);
}

/* The store fails while it commits an instant that clears a bitmap: the new bits may lack something
 * as well. */
static void break_all(struct fake_store *s, void *opaque)
{
    disk_bitmaps_broken(s->rig->disk, NULL, opaque);
}

static void test_breaks_while_it_is_cleared(void)
{
    struct fake_store *s = fake_store_new();

    stored_add(s, "a", true, true);
    s->committing = break_all;
    s->opaque = (char *)"once";
    stored_clear(s, "a");
    assert_stored(s, "a", 0, false, true, "once");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 1);
    s->opaque = (char *)"twice";
    stored_clear(s, "a");
    assert_stored(s, "a", 0, false, true, "twice");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    s->committing = NULL;
    stored_clear(s, "a");
    assert_stored(s, "a", 0, true, true, NULL);
    fake_store_free(s);
}

/* What is copied from a bitmap that breaks meanwhile may lack something: no target takes it. */
static void break_source(struct rig *r, enum disk_point point)
{
    const enum disk_point *when = r->visitor;
    struct dirty_bitmap *db;

    if (point != *when)
        return;
    db = disk_find_bitmap(r->disk, "source");
    disk_bitmaps_broken(r->disk, db->bits, "page lost");
    dirty_bitmap_unref(db);
}

static void test_source_breaks(void)
{
    enum disk_point when = POINT_BITS_COPYING;
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();
    GError *error = NULL;

    stored_add(s, "source", true, true);
    stored_add(s, "target", false, true);
    s->rig->visitor = &when;
    s->rig->visit = break_source;
    when = POINT_FLIPPED;
    g_assert_cmpint(instant_bitmap_merge(i, d, "target", d, "source", NULL), ==, 0);
    assert_refused(instant_commit(i, &error), &error,
                   "Bitmap 'target' has bits of one that has become inconsistent: page lost");
    assert_stored(s, "source", 0, false, true, "page lost");
    assert_stored(s, "target", 0, false, true, NULL);

    stored_clear(s, "source");
    i = instant_new();
    when = POINT_BITS_COPIED;
    g_assert_cmpint(instant_bitmap_merge(i, d, "target", d, "source", NULL), ==, 0);
    commit_instant(i);
    assert_stored(s, "target", 0, false, true, "page lost");
    g_assert_cmpstr(s->rig->inconsistent, ==, "vda/target: page lost");
    s->rig->visit = NULL;
    fake_store_free(s);
}

/* The last moment before an instant that changes them takes effect. */
static void break_at_publishing(struct rig *r, enum disk_point point)
{
    if (point == POINT_PUBLISHING)
        disk_bitmaps_broken(r->disk, NULL, r->visitor);
}

static void test_breaks_while_published(void)
{
    struct fake_store *s = fake_store_new();
    struct instant *i = instant_new();

    stored_add(s, "cleared", true, true);
    stored_add(s, "same", true, true);
    s->rig->visitor = (char *)"late";
    s->rig->visit = break_at_publishing;
    g_assert_cmpint(instant_bitmap_clear(i, s->rig->disk, "cleared", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, s->rig->disk, "same", true, NULL), ==, 0);
    commit_instant(i);
    assert_stored(s, "cleared", 0, false, true, "late");
    assert_stored(s, "same", 0, false, true, "late");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    s->rig->visitor = (char *)"later";
    stored_clear(s, "cleared");
    assert_stored(s, "cleared", 0, false, true, "later");
    g_assert_cmpstr(s->rig->inconsistent, ==, "vda/cleared: later");
    s->rig->visit = NULL;
    fake_store_free(s);
}

/* ---- files that are lost: their bits read as clean until the store has told ---- */

static void test_lost_extents(void)
{
    struct fake_store *s = fake_store_new();

    stored_add(s, "a", true, true);
    rig_fill(s->rig, 0, 4096, 'x');
    s->lost = stored_bits_at(s, "a");
    assert_stored_no_extents(s, "a");
    s->lost = NULL;
    fake_store_free(s);
}

static void lose_source(struct rig *r, enum disk_point point)
{
    struct fake_store *s = r->visitor;

    if (point == POINT_BITS_COPYING || point == POINT_SHADOWED)
        s->lost = stored_bits_at(s, "source");
}

static void test_lost_while_copied(void)
{
    static const char why[] =
        "Bitmap 'target': bits of it were lost with their file while they were copied";
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();
    GError *error = NULL;

    stored_add(s, "source", true, true);
    stored_add(s, "target", false, true);
    s->rig->visitor = s;
    s->rig->visit = lose_source;
    g_assert_cmpint(instant_bitmap_merge(i, d, "target", d, "source", NULL), ==, 0);
    assert_refused(instant_commit(i, &error), &error, why);
    s->rig->visit = NULL;
    assert_stored(s, "target", 0, false, true, NULL);

    /* Once it is told, the others are resized all the same. */
    disk_bitmaps_broken(d, s->lost, "file lost");
    g_assert_cmpint(disk_resize(d, 2 * MIB, NULL), ==, 0);
    assert_stored(s, "source", 0, false, true, "file lost");
    fake_store_free(s);
}

static bool lost_always(void *opaque)
{
    return true;
}

/* The store may have told of it before the disk had the bitmap. */
static void test_lost_before_it_is_restored(void)
{
    uint64_t words[4] = {0};
    struct bitmap *bits = bitmap_new_over(words, 1 * MIB, 4096, NULL, NULL, NULL);
    struct fake_store *s;

    bitmap_set_lost(bits, lost_always);
    s = fake_store_new_with((const struct disk_restored[]){{"a", bits, 4096, true, NULL}}, 1);
    assert_stored(s, "a", 0, false, true, "its bits were lost with their file");
    fake_store_free(s);
    bitmap_unref(bits);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state-broken/one", test_one_breaks);
    g_test_add_func("/state-broken/all", test_all_break);
    g_test_add_func("/state-broken/while-cleared", test_breaks_while_it_is_cleared);
    g_test_add_func("/state-broken/source", test_source_breaks);
    g_test_add_func("/state-broken/published", test_breaks_while_published);
    g_test_add_func("/state-broken/lost/extents", test_lost_extents);
    g_test_add_func("/state-broken/lost/copied", test_lost_while_copied);
    g_test_add_func("/state-broken/lost/restored", test_lost_before_it_is_restored);
    return g_test_run();
}
