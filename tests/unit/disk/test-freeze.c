/* SPDX-License-Identifier: BSD-3-Clause */
/* Bits that stand still from an instant on. */
#include "tests/rigs/fake-store.h"

#include <string.h>

static void commit(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

static struct dirty_bitmap *freeze(struct instant *i, struct disk *d, const char *source)
{
    const struct freeze_options o = {.name = "frozen", .source = source};
    g_autoptr(GError) error = NULL;
    struct dirty_bitmap *frozen = NULL;

    instant_freeze(i, d, &o, &frozen, &error);
    g_assert_no_error(error);
    return frozen;
}

static struct dirty_bitmap *freeze_now(struct disk *d, const char *source)
{
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen = freeze(i, d, source);

    commit(i);
    return frozen;
}

/* As its readers see it. */
static bool is_dirty(struct dirty_bitmap *db, uint64_t offset)
{
    struct extents e = EXTENTS_INIT;
    bool dirty;

    g_assert_cmpint(dirty_bitmap_extents(db, 1, offset, true, &e), ==, 0);
    dirty = e.list[0].flags & EXTENT_DIRTY;
    extents_free(&e);
    return dirty;
}

static uint64_t count(struct dirty_bitmap *db)
{
    struct dirty_bitmap_info info;

    dirty_bitmap_info(db, &info);
    g_assert_false(info.recording);
    g_assert_false(info.persistent);
    return info.count;
}

static void assert_count(struct dirty_bitmap *db, uint64_t bytes)
{
    g_assert_cmpuint(count(db), ==, bytes);
    dirty_bitmap_unref(db);
}

static void test_stands_still(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct dirty_bitmap *frozen;

    rig_bitmap(r, "b", 4096);
    rig_fill(r, 0, 4096, 'a');
    frozen = freeze_now(r->disk, "b");
    g_assert_cmpstr(dirty_bitmap_name(frozen), ==, "frozen");
    g_assert_null(disk_find_bitmap(r->disk, "frozen"));
    rig_fill(r, 8192, 4096, 'b');
    g_assert_true(is_dirty(frozen, 0));
    g_assert_false(is_dirty(frozen, 8192));
    assert_count(frozen, 4096);
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    g_assert_cmpuint(r->disk->tracker->n, ==, 1);
    rig_free(r);
}

static void test_all(void)
{
    struct rig *r = rig_new(1 * MIB + 512, 0);
    struct instant *i = instant_new();
    struct freeze_options o = {.name = "fine", .granularity = 4096};
    struct dirty_bitmap *fine, *frozen = freeze(i, r->disk, NULL);

    g_assert_cmpint(instant_freeze(i, r->disk, &o, &fine, NULL), ==, 0);
    commit(i);
    g_assert_true(is_dirty(frozen, 0));
    g_assert_true(is_dirty(frozen, 1 * MIB + 511));
    assert_count(frozen, 1 * MIB + 512);
    assert_count(fine, 1 * MIB + 512);
    rig_free(r);
}

/* A checkpoint's that another session reads from, several times. */
static void test_busy(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    struct dirty_bitmap *db, *first, *second;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "c", 4096, false, NULL), ==, 0);
    commit(i);
    rig_fill(r, 0, 4096, 'a');
    db = disk_find_bitmap(r->disk, "c");
    dirty_bitmap_busy_begin(db);
    i = instant_new();
    first = freeze(i, r->disk, "c");
    second = freeze(i, r->disk, "c");
    commit(i);
    rig_fill(r, 4096, 4096, 'a');
    assert_count(freeze_now(r->disk, "c"), 8192);
    assert_count(first, 4096);
    assert_count(second, 4096);
    dirty_bitmap_busy_end(db);
    dirty_bitmap_unref(db);
    rig_free(r);
}

static void test_refused(void)
{
    struct fake_store *s = fake_store_new();
    struct instant *i = instant_new();
    struct freeze_options o = {.name = "f", .source = "b"};
    struct dirty_bitmap *frozen;
    GError *error = NULL;

    g_assert_cmpint(instant_freeze(i, s->rig->disk, &o, &frozen, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "Dirty bitmap 'b' not found");
    g_clear_error(&error);
    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, "b", 4096, true, true, NULL), ==, 0);
    commit(i);
    disk_bitmaps_broken(s->rig->disk, NULL, "broken");
    i = instant_new();
    g_assert_cmpint(instant_freeze(i, s->rig->disk, &o, &frozen, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "Bitmap 'b' is inconsistent and cannot be used: broken");
    g_clear_error(&error);
    instant_abort(i);
    fake_store_free(s);
}

/* Each action sees the effects of those before it, and not of those after it. */
static void test_order_of_actions(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct disk *d = r->disk;
    struct instant *i = instant_new();
    struct dirty_bitmap *old, *merged, *cleared, *fresh;

    rig_bitmap(r, "a", 4096);
    rig_fill(r, 0, 4096, 'a');
    rig_bitmap(r, "b", 4096);
    rig_fill(r, 8192, 4096, 'a');
    old = freeze(i, d, "b");
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "a", NULL), ==, 0);
    merged = freeze(i, d, "b");
    g_assert_cmpint(instant_bitmap_clear(i, d, "b", NULL), ==, 0);
    cleared = freeze(i, d, "b");
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "a", NULL), ==, 0);
    g_assert_cmpint(instant_checkpoint_bitmap_add(i, d, "c", 4096, false, NULL), ==, 0);
    fresh = freeze(i, d, "c");
    commit(i);
    rig_fill(r, 16384, 4096, 'a');
    assert_count(old, 4096);
    assert_count(merged, 8192);
    assert_count(cleared, 0);
    assert_count(fresh, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 3 * 4096);
    g_assert_cmpuint(rig_count(r, "c"), ==, 4096);
    rig_free(r);
}

/* One that does not record has no shadow. */
static void test_disabled(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();

    rig_bitmap(r, "b", 4096);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpint(instant_bitmap_record(i, r->disk, "b", false, NULL), ==, 0);
    commit(i);
    rig_fill(r, 8192, 4096, 'a');
    assert_count(freeze_now(r->disk, "b"), 4096);
    rig_free(r);
}

static void test_resize(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct dirty_bitmap *frozen;
    struct extents e = EXTENTS_INIT;

    rig_bitmap(r, "b", 4096);
    frozen = freeze_now(r->disk, "b");
    g_assert_cmpint(disk_resize(r->disk, 2 * MIB, NULL), ==, 0);
    g_assert_cmpint(dirty_bitmap_extents(frozen, 1 * MIB, 0, false, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    extents_free(&e);
    assert_count(frozen, 0);
    rig_free(r);
}

/* ---- writes at each point ---- */

struct writes {
    enum disk_point point;
    bool done;
};

/* A guest writes just now, from another thread. */
static void write_at(struct rig *r, enum disk_point point)
{
    struct writes *w = r->visitor;

    if (point != w->point || w->done)
        return;
    w->done = true;
    g_thread_join(rig_fill_thread(r, 16384, 4096, 'w'));
}

struct at {
    enum disk_point point;
    bool before; /* the instant */
};

static void check_write_at(const void *data)
{
    const struct at *at = data;
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct writes w = {.point = at->point};
    struct view_options options = {0};
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;
    struct view *v;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "base", 4096, true, NULL), ==, 0);
    commit(i);
    rig_fill(r, 0, 4096, 'a');
    i = instant_new();
    g_assert_cmpint(instant_view_create(i, r->disk, "v", &options, &v, NULL), ==, 0);
    frozen = freeze(i, r->disk, "base");
    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "next", 4096, true, NULL), ==, 0);
    r->visitor = &w;
    r->visit = write_at;
    commit(i);
    r->visit = NULL;
    g_assert_true(w.done);
    g_assert_cmpint(is_dirty(frozen, 16384), ==, at->before);
    g_assert_cmpint(node_is(view_node(v), 16384, 4096, 'w'), ==, at->before);
    g_assert_cmpuint(rig_count(r, "next"), ==, at->before ? 0 : 4096);
    g_assert_cmpuint(rig_count(r, "base"), ==, 8192);
    assert_count(frozen, at->before ? 8192 : 4096);
    rig_delete(r, v);
    fake_store_free(s);
}

static void write_when_shadowed(struct rig *r, enum disk_point point)
{
    if (point == POINT_SHADOWED && !r->visitor) {
        r->visitor = r;
        g_thread_join(rig_fill_thread(r, 16384, 4096, 'w'));
    }
}

/* What is merged into its source later in the transaction, and what goes there because of that, is none
 * of it. */
static void test_merged_into_later(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;

    rig_bitmap(r, "a", 4096);
    rig_bitmap(r, "b", 4096);
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "b", NULL), ==, 0);
    frozen = freeze(i, r->disk, "b");
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "b", r->disk, "a", NULL), ==, 0);
    r->visit = write_when_shadowed;
    commit(i);
    r->visit = NULL;
    g_assert_nonnull(r->visitor);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    assert_count(frozen, 0);
    rig_free(r);
}

/* A writer that is inside when the gate is shut is wholly before the instant. */
static void test_write_under_way(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;
    GThread *writer;

    rig_bitmap(r, "b", 4096);
    r->disk->drain_usec = 60 * G_USEC_PER_SEC;
    park_arm(r, POINT_WRITE_MARKED, ANYWHERE);
    writer = rig_fill_thread(r, 0, 4096, 'a');
    park_wait(r);
    frozen = freeze(i, r->disk, "b");
    park_release(r);
    commit(i);
    g_thread_join(writer);
    assert_count(frozen, 4096);
    rig_free(r);
}

static void test_commit_fails(void)
{
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "base", 4096, true, NULL), ==, 0);
    commit(i);
    i = instant_new();
    frozen = freeze(i, r->disk, "base");
    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "next", 4096, true, NULL), ==, 0);
    s->fails = FAIL_COMMIT;
    g_assert_cmpint(instant_commit(i, NULL), ==, -1);
    dirty_bitmap_unref(frozen);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpuint(rig_count(r, "base"), ==, 4096);
    g_assert_cmpuint(r->disk->tracker->n, ==, 1);
    g_assert_null(disk_find_bitmap(r->disk, "next"));
    fake_store_free(s);
}

/* Before the instant nobody can take its bits for the truth. */
static void test_not_yet(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    struct extents e = EXTENTS_INIT;
    struct dirty_bitmap *frozen;

    rig_bitmap(r, "b", 4096);
    frozen = freeze(i, r->disk, "b");
    g_assert_cmpint(dirty_bitmap_extents(frozen, 4096, 0, false, &e), <, 0);
    instant_abort(i);
    g_assert_cmpint(dirty_bitmap_extents(frozen, 4096, 0, false, &e), <, 0);
    dirty_bitmap_unref(frozen);
    rig_free(r);
}

/* ---- sources that break ---- */

static void break_at(struct rig *r, enum disk_point point)
{
    if (point == *(enum disk_point *)r->visitor)
        disk_bitmaps_broken(r->disk, NULL, "broken");
}

static void check_breaks(enum disk_point point, const char *reason)
{
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;
    g_autofree char *why = NULL;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "base", 4096, true, NULL), ==, 0);
    commit(i);
    i = instant_new();
    frozen = freeze(i, r->disk, "base");
    if (point == POINT_FLIPPED)
        g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "next", 4096, true, NULL), ==, 0);
    r->visitor = &point;
    r->visit = break_at;
    commit(i);
    r->visit = NULL;
    why = dirty_bitmap_reason(frozen);
    g_assert_cmpstr(why, ==, reason);
    dirty_bitmap_unref(frozen);
    fake_store_free(s);
}

static void test_source_breaks(void)
{
    check_breaks(POINT_SHADOWED, "broken");
    check_breaks(POINT_GATES_CLOSED, "broken");
    check_breaks(POINT_FLIPPED, NULL);
}

/* At the last moment, of a source that has to be good. Nothing has happened. */
static void test_needed_source_breaks(void)
{
    struct freeze_options o = {.name = "frozen", .source = "base", .needed = "no"};
    enum disk_point point = POINT_GATES_CLOSED;
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen;
    GError *error = NULL;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "base", 4096, true, NULL), ==, 0);
    commit(i);
    i = instant_new();
    g_assert_cmpint(instant_freeze(i, r->disk, &o, &frozen, NULL), ==, 0);
    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "next", 4096, true, NULL), ==, 0);
    r->visitor = &point;
    r->visit = break_at;
    instant_commit(i, &error);
    g_assert_cmpstr(error->message, ==, "no: broken");
    g_error_free(error);
    r->visit = NULL;
    g_assert_null(disk_find_bitmap(r->disk, "next"));
    rig_fill(r, 0, 4096, 'a');
    dirty_bitmap_unref(frozen);
    fake_store_free(s);
}

/* Lost bits read as clean, perhaps before the store has told of it. */
static void test_source_lost(void)
{
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct instant *i = instant_new();
    struct dirty_bitmap *frozen, *base;
    g_autofree char *why = NULL;

    g_assert_cmpint(instant_checkpoint_bitmap_add(i, r->disk, "base", 4096, true, NULL), ==, 0);
    commit(i);
    base = disk_find_bitmap(r->disk, "base");
    atomic_store(&s->lost, base->bits);
    frozen = freeze_now(r->disk, "base");
    why = dirty_bitmap_reason(frozen);
    g_assert_cmpstr(why, ==, "bits were lost with their file while they were copied");
    atomic_store(&s->lost, NULL);
    dirty_bitmap_unref(base);
    dirty_bitmap_unref(frozen);
    fake_store_free(s);
}

int main(int argc, char **argv)
{
    static const struct at before[] = {
        {POINT_SHADOWED, true},   {POINT_BITS_COPIED, true}, {POINT_FLIPPED, false},
        {POINT_COMMITTED, false}, {POINT_PUBLISHING, false},
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/freeze/stands-still", test_stands_still);
    g_test_add_func("/freeze/all", test_all);
    g_test_add_func("/freeze/busy", test_busy);
    g_test_add_func("/freeze/refused", test_refused);
    g_test_add_func("/freeze/order-of-actions", test_order_of_actions);
    g_test_add_func("/freeze/disabled", test_disabled);
    g_test_add_func("/freeze/resize", test_resize);
    g_test_add_data_func("/freeze/write/shadowed", &before[0], check_write_at);
    g_test_add_data_func("/freeze/write/copied", &before[1], check_write_at);
    g_test_add_data_func("/freeze/write/flipped", &before[2], check_write_at);
    g_test_add_data_func("/freeze/write/committed", &before[3], check_write_at);
    g_test_add_data_func("/freeze/write/publishing", &before[4], check_write_at);
    g_test_add_func("/freeze/write/merged-into-later", test_merged_into_later);
    g_test_add_func("/freeze/write/under-way", test_write_under_way);
    g_test_add_func("/freeze/commit-fails", test_commit_fails);
    g_test_add_func("/freeze/not-yet", test_not_yet);
    g_test_add_func("/freeze/source-breaks", test_source_breaks);
    g_test_add_func("/freeze/needed-source-breaks", test_needed_source_breaks);
    g_test_add_func("/freeze/source-lost", test_source_lost);
    return g_test_run();
}
