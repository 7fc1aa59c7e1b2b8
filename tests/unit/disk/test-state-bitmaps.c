/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps of a disk with a store: those that it has found, those that break, those that move. */
#include "tests/rigs/fake-store.h"

#include <errno.h>

static void commit(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

static struct dirty_bitmap_info info_of(struct fake_store *s, const char *name, char **reason)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    struct dirty_bitmap_info info;

    g_assert_nonnull(db);
    dirty_bitmap_info(db, &info);
    *reason = dirty_bitmap_reason(db);
    dirty_bitmap_unref(db);
    return info;
}

/* The reason, or NULL if it is good. */
static void assert_bitmap(struct fake_store *s, const char *name, uint64_t count, bool recording,
                          bool persistent, const char *why)
{
    g_autofree char *reason = NULL;
    struct dirty_bitmap_info info = info_of(s, name, &reason);

    g_assert_cmpstr(reason, ==, why);
    g_assert_true(info.inconsistent == (why != NULL));
    if (!why)
        g_assert_cmpuint(info.count, ==, count);
    g_assert_true(info.recording == recording);
    g_assert_true(info.persistent == persistent);
    g_assert_false(info.busy);
}

/* Nothing is called clean. */
static void assert_no_extents(struct fake_store *s, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    struct extents e = EXTENTS_INIT;

    g_assert_cmpint(dirty_bitmap_extents(db, 4096, 0, false, &e), ==, -EIO);
    extents_free(&e);
    dirty_bitmap_unref(db);
}

static void add(struct fake_store *s, const char *name, bool recording, bool persistent)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, name, 4096, recording, persistent, NULL),
                    ==, 0);
    commit(i);
    fake_store_forget(s);
}

static void clear(struct fake_store *s, const char *name)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_clear(i, s->rig->disk, name, NULL), ==, 0);
    commit(i);
}

static void refuse(int result, GError **error, const char *message)
{
    g_assert_cmpint(result, ==, -1);
    g_assert_cmpstr((*error)->message, ==, message);
    g_clear_error(error);
}

static const struct bitmap *bits_of(struct fake_store *s, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    const struct bitmap *bits = db->bits;

    dirty_bitmap_unref(db);
    return bits;
}

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
    assert_bitmap(s, "good", 8192, true, true, NULL);
    assert_bitmap(s, "still", 65536, false, true, NULL);
    assert_bitmap(s, "lost", 0, false, true, lost);
    assert_no_extents(s, "lost");
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

    refuse(instant_bitmap_record(i, d, "lost", false, &error), &error, why);
    refuse(instant_bitmap_merge(i, d, "good", d, "lost", &error), &error, why);
    refuse(instant_bitmap_merge(i, d, "lost", d, "good", &error), &error, why);
    refuse(instant_bitmap_merge(i, d, "lost", d, "lost", &error), &error, why);
    refuse(instant_bitmap_set_persistence(i, d, "lost", false, &error), &error, why);
    instant_abort(i);
    assert_bitmap(s, "lost", 0, false, true, lost);
    end_restored(s, bits);
}

/* It begins anew, and records if it did. */
static void test_clear_makes_good(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);

    clear(s, "lost");
    assert_store_heard(s, "new; attach 0; prepare good=4096 still=65536! lost=0; commit; end; ");
    assert_bitmap(s, "lost", 0, true, true, NULL);
    rig_fill(s->rig, 0, 4096, 'x');
    assert_bitmap(s, "lost", 4096, true, true, NULL);
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
    commit(i);
    assert_bitmap(s, "lost", 4096, false, true, NULL);
    end_restored(s, bits);
}

static void test_remove_inconsistent(void)
{
    struct bitmap *bits[2];
    struct fake_store *s = restored(bits);
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_remove(i, s->rig->disk, "lost", NULL), ==, 0);
    commit(i);
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

    clear(s, "still");
    assert_store_heard(s, "new; attach 0; prepare good=4096 still=0!; commit; end; ");
    assert_bitmap(s, "lost", 0, false, true, lost);
    g_assert_cmpint(disk_resize(s->rig->disk, 2 * MIB, NULL), ==, 0);
    assert_bitmap(s, "lost", 0, false, true, lost);
    assert_bitmap(s, "good", 4096 + 1 * MIB, true, true, NULL);
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 0);
    clear(s, "lost");
    rig_fill(s->rig, 2 * MIB - 4096, 4096, 'x');
    assert_bitmap(s, "lost", 4096, true, true, NULL);
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
    commit(i);
    g_assert_cmpuint(d->tracker->n, ==, 2);
    assert_bitmap(s, "good", 4096, true, true, NULL);
    assert_bitmap(s, "lost", 0, false, true, lost);
    assert_bitmap(s, "t", 4096, true, false, NULL);

    i = instant_new();
    s->rig->visit = break_when_closed;
    g_assert_cmpint(instant_view_create(i, d, "w", &options, NULL, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, d, "t", d, "still", NULL), ==, 0);
    commit(i);
    s->rig->visit = NULL;
    assert_store_heard(s, "");
    assert_bitmap(s, "good", 0, false, true, "while closed");
    assert_bitmap(s, "t", 0, false, false, "while closed"); /* it was made from one of these */
    end_restored(s, bits);
}

/* ---- persistence ---- */

static void set_persistence(struct fake_store *s, const char *name, bool persistent)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_set_persistence(i, s->rig->disk, name, persistent, NULL), ==, 0);
    commit(i);
}

static void write_at_points(struct rig *r, enum disk_point point)
{
    if (point == POINT_SHADOWED || point == POINT_FLIPPED)
        rig_fill(r, point == POINT_SHADOWED ? 64 * KIB : 128 * KIB, 4096, 'p');
}

static void test_persistence(void)
{
    struct fake_store *s = fake_store_new();

    add(s, "b", true, false);
    rig_fill(s->rig, 0, 4096, 'x');
    assert_bitmap(s, "b", 4096, true, false, NULL);
    s->rig->visit = write_at_points;
    set_persistence(s, "b", true);
    assert_store_heard(s, "new; attach 0; prepare b=8192; commit; end; ");
    assert_bitmap(s, "b", 12288, true, true, NULL);
    set_persistence(s, "b", true); /* nothing to do */
    assert_store_heard(s, "prepare b=12288; commit; end; ");
    set_persistence(s, "b", false);
    assert_store_heard(s, "prepare b=12288~; commit; end; ");
    s->rig->visit = NULL;
    assert_bitmap(s, "b", 12288, true, false, NULL);
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
    commit(i);
    rig_fill(s->rig, 0, 4096, 'x');
    assert_bitmap(s, "b", 4096, true, false, NULL);
    assert_bitmap(s, "c", 0, false, true, NULL);
    g_assert_cmpuint(s->bits, ==, 1);
    i = instant_new();
    g_assert_cmpint(instant_bitmap_clear(i, d, "b", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_set_persistence(i, d, "b", true, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "c", NULL), ==, 0);
    commit(i);
    assert_bitmap(s, "b", 0, true, true, NULL);
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
    refuse(instant_bitmap_add(i, r->disk, "c", 4096, true, true, &error), &error, why);
    refuse(instant_bitmap_set_persistence(i, r->disk, "b", true, &error), &error, why);
    g_assert_cmpint(instant_bitmap_set_persistence(i, r->disk, "b", false, NULL), ==, 0);
    instant_abort(i);
    rig_free(r);
}

/* ---- bitmaps that break ---- */

static void test_one_breaks(void)
{
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;

    add(s, "a", true, true);
    add(s, "b", true, true);
    disk_bitmaps_broken(d, bits_of(s, "a"), "sync failed");
    disk_bitmaps_broken(d, bits_of(s, "a"), "and again");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 1);
    g_assert_cmpstr(s->rig->inconsistent, ==, "vda/a: sync failed");
    assert_bitmap(s, "a", 0, false, true, "sync failed");
    assert_no_extents(s, "a");
    assert_bitmap(s, "b", 0, true, true, NULL);
    add(s, "c", true, false);
    assert_bitmap(s, "a", 0, false, true, "sync failed");
    clear(s, "a");
    rig_fill(s->rig, 0, 4096, 'x');
    assert_bitmap(s, "a", 4096, true, true, NULL);
    fake_store_free(s);
}

static void test_all_break(void)
{
    struct fake_store *s = fake_store_new();

    add(s, "a", true, true);
    add(s, "b", false, true);
    add(s, "c", true, false);
    disk_bitmaps_broken(s->rig->disk, NULL, "journal failed");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    assert_bitmap(s, "a", 0, false, true, "journal failed");
    assert_bitmap(s, "b", 0, false, true, "journal failed");
    assert_bitmap(s, "c", 0, true, false, NULL);
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

    add(s, "a", true, true);
    s->committing = break_all;
    s->opaque = (char *)"once";
    clear(s, "a");
    assert_bitmap(s, "a", 0, false, true, "once");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 1);
    s->opaque = (char *)"twice";
    clear(s, "a");
    assert_bitmap(s, "a", 0, false, true, "twice");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    s->committing = NULL;
    clear(s, "a");
    assert_bitmap(s, "a", 0, true, true, NULL);
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

    add(s, "source", true, true);
    add(s, "target", false, true);
    s->rig->visitor = &when;
    s->rig->visit = break_source;
    when = POINT_FLIPPED;
    g_assert_cmpint(instant_bitmap_merge(i, d, "target", d, "source", NULL), ==, 0);
    refuse(instant_commit(i, &error), &error,
           "Bitmap 'target' has bits of one that has become inconsistent: page lost");
    assert_bitmap(s, "source", 0, false, true, "page lost");
    assert_bitmap(s, "target", 0, false, true, NULL);

    clear(s, "source");
    i = instant_new();
    when = POINT_BITS_COPIED;
    g_assert_cmpint(instant_bitmap_merge(i, d, "target", d, "source", NULL), ==, 0);
    commit(i);
    assert_bitmap(s, "target", 0, false, true, "page lost");
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

    add(s, "cleared", true, true);
    add(s, "same", true, true);
    s->rig->visitor = (char *)"late";
    s->rig->visit = break_at_publishing;
    g_assert_cmpint(instant_bitmap_clear(i, s->rig->disk, "cleared", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, s->rig->disk, "same", true, NULL), ==, 0);
    commit(i);
    assert_bitmap(s, "cleared", 0, false, true, "late");
    assert_bitmap(s, "same", 0, false, true, "late");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    s->rig->visitor = (char *)"later";
    clear(s, "cleared");
    assert_bitmap(s, "cleared", 0, false, true, "later");
    g_assert_cmpstr(s->rig->inconsistent, ==, "vda/cleared: later");
    s->rig->visit = NULL;
    fake_store_free(s);
}

/* ---- files that are lost: their bits read as clean until the store has told ---- */

static void test_lost_extents(void)
{
    struct fake_store *s = fake_store_new();

    add(s, "a", true, true);
    rig_fill(s->rig, 0, 4096, 'x');
    s->lost = bits_of(s, "a");
    assert_no_extents(s, "a");
    s->lost = NULL;
    fake_store_free(s);
}

static void lose_source(struct rig *r, enum disk_point point)
{
    struct fake_store *s = r->visitor;

    if (point == POINT_BITS_COPYING || point == POINT_SHADOWED)
        s->lost = bits_of(s, "source");
}

static void test_lost_while_copied(void)
{
    static const char why[] =
        "Bitmap 'target': bits of it were lost with their file while they were copied";
    struct fake_store *s = fake_store_new();
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();
    GError *error = NULL;

    add(s, "source", true, true);
    add(s, "target", false, true);
    s->rig->visitor = s;
    s->rig->visit = lose_source;
    g_assert_cmpint(instant_bitmap_merge(i, d, "target", d, "source", NULL), ==, 0);
    refuse(instant_commit(i, &error), &error, why);
    s->rig->visit = NULL;
    assert_bitmap(s, "target", 0, false, true, NULL);

    /* Once it is told, the others are resized all the same. */
    disk_bitmaps_broken(d, s->lost, "file lost");
    g_assert_cmpint(disk_resize(d, 2 * MIB, NULL), ==, 0);
    assert_bitmap(s, "source", 0, false, true, "file lost");
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
    assert_bitmap(s, "a", 0, false, true, "its bits were lost with their file");
    fake_store_free(s);
    bitmap_unref(bits);
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
    g_test_add_func("/state-bitmaps/break/one", test_one_breaks);
    g_test_add_func("/state-bitmaps/break/all", test_all_break);
    g_test_add_func("/state-bitmaps/break/while-cleared", test_breaks_while_it_is_cleared);
    g_test_add_func("/state-bitmaps/break/source", test_source_breaks);
    g_test_add_func("/state-bitmaps/break/published", test_breaks_while_published);
    g_test_add_func("/state-bitmaps/lost/extents", test_lost_extents);
    g_test_add_func("/state-bitmaps/lost/copied", test_lost_while_copied);
    g_test_add_func("/state-bitmaps/lost/restored", test_lost_before_it_is_restored);
    return g_test_run();
}
