/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps and instants: all or nothing, at one point between writes. */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

static void commit(struct instant *i)
{
    GError *error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

static void assert_refused(int result, GError *error, const char *message)
{
    g_assert_cmpint(result, ==, -1);
    g_assert_nonnull(error);
    g_assert_cmpstr(error->message, ==, message);
    g_error_free(error);
}

#define refuse(message, call)                                                                      \
    do {                                                                                           \
        GError *error = NULL;                                                                      \
        int result = call;                                                                         \
                                                                                                   \
        assert_refused(result, error, message);                                                    \
    } while (0)

static void test_records_exactly(void)
{
    struct rig *r = rig_new(1 * MIB + 100, 0);

    rig_bitmap(r, "b0", 512);
    rig_bitmap(r, "b1", 65536);
    rig_fill(r, 511, 2, 'a');
    g_assert_cmpuint(rig_count(r, "b0"), ==, 1024);
    g_assert_cmpuint(rig_count(r, "b1"), ==, 65536);
    g_assert_cmpint(node_zero(r->io, 512, 65536, 0), ==, 0);
    g_assert_cmpint(node_trim(r->io, 513, 131072, 0), ==, 0);
    g_assert_cmpuint(rig_count(r, "b0"), ==, 1024 + 512 + 1024);
    g_assert_cmpuint(rig_count(r, "b1"), ==, 3 * 65536);
    rig_fill(r, 1 * MIB + 99, 1, 'a');
    g_assert_cmpuint(rig_count(r, "b0"), ==, 1024 + 512 + 1024 + 512);
    rig_free(r);
}

static void test_failed_write_stays_dirty(void)
{
    struct fake_failure failure = {.call = FAKE_WRITE, .error = -ENOSPC};
    struct rig *r = rig_new(1 * MIB, 0);

    rig_bitmap(r, "b", 4096);
    fake_backend_fail(r->backend, &failure);
    g_assert_cmpint(rig_try_fill(r, 0, 4096, 'a'), ==, -ENOSPC);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_free(r);
}

/* The bits are there before the backend is called. */
static void test_marked_before_written(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    GThread *writer;

    rig_bitmap(r, "b", 4096);
    park_arm(r, POINT_WRITE_MARKED, ANYWHERE);
    writer = rig_fill_thread(r, 8192, 4096, 'a');
    park_wait(r);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    g_assert_true(node_is(disk_node(r->disk), 8192, 4096, 0));
    park_release(r);
    g_thread_join(writer);
    rig_free(r);
}

/* Actions see each other's effects. */
static void test_actions_in_order(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();

    rig_bitmap(r, "old", 4096);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "new", 65536, true, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "new", r->disk, "old", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "old", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_remove(i, r->disk, "old", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "old", 4096, false, false, NULL), ==, 0);
    commit(i);
    g_assert_cmpuint(rig_count(r, "new"), ==, 65536);
    g_assert_cmpuint(rig_count(r, "old"), ==, 0);
    rig_fill(r, 512 * KIB, 1, 'b');
    g_assert_cmpuint(rig_count(r, "new"), ==, 2 * 65536);
    g_assert_cmpuint(rig_count(r, "old"), ==, 0);
    i = instant_new();
    g_assert_cmpint(instant_bitmap_record(i, r->disk, "old", true, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, r->disk, "new", false, NULL), ==, 0);
    commit(i);
    rig_fill(r, 768 * KIB, 1, 'b');
    g_assert_cmpuint(rig_count(r, "new"), ==, 2 * 65536);
    g_assert_cmpuint(rig_count(r, "old"), ==, 4096);
    rig_free(r);
}

static void test_abort_leaves_nothing(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view_options options = {0};
    struct instant *i = instant_new();
    g_autoptr(GPtrArray) bitmaps = NULL, views = NULL;

    rig_bitmap(r, "a", 4096);
    rig_bitmap(r, "b", 4096);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "c", 0, true, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "a", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "c", r->disk, "b", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, r->disk, "b", false, NULL), ==, 0);
    g_assert_cmpint(instant_view_create(i, r->disk, "v", &options, NULL, NULL), ==, 0);
    refuse("Dirty bitmap 'nope' not found", instant_bitmap_remove(i, r->disk, "nope", &error));
    instant_abort(i);
    bitmaps = disk_bitmaps(r->disk);
    views = disk_views(r->disk);
    g_assert_cmpuint(bitmaps->len, ==, 2);
    g_assert_cmpuint(views->len, ==, 0);
    g_assert_null(r->disk->scratch);
    g_assert_cmpuint(r->disk->tracker->n, ==, 2); /* the shadow of the merge is gone */
    rig_fill(r, 4096, 4096, 'b');
    g_assert_cmpuint(rig_count(r, "a"), ==, 8192);
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    rig_free(r);
}

static void test_errors(void)
{
    struct rig *r = rig_new(1 * MIB, 0), *other = rig_new(2 * MIB, 0);
    struct instant *i = instant_new();
    g_autofree char *longest = g_strnfill(1023, 'x'), *longer = g_strnfill(1024, 'x');
    g_autofree char *too_long = g_strdup_printf("Bitmap name too long: %s", longer);
    struct dirty_bitmap *db;

    rig_bitmap(r, "b", 4096);
    rig_bitmap(other, "o", 4096);
    refuse("Bitmap name cannot be empty",
           instant_bitmap_add(i, r->disk, "", 3, true, false, &error));
    refuse("Granularity must be power of 2 and at least 512",
           instant_bitmap_add(i, r->disk, "b", 256, true, false, &error));
    refuse("Granularity must be power of 2 and at least 512",
           instant_bitmap_add(i, r->disk, "b", 5000, true, false, &error));
    refuse("Bitmap already exists: b", instant_bitmap_add(i, r->disk, "b", 0, true, false, &error));
    refuse(too_long, instant_bitmap_add(i, r->disk, longer, 0, true, false, &error));
    g_assert_cmpint(instant_bitmap_add(i, r->disk, longest, 0x80000000u, true, false, NULL), ==, 0);
    refuse("Bitmaps are of different sizes (destination size is 1048576, source size is 2097152) "
           "and can't be merged",
           instant_bitmap_merge(i, r->disk, "b", other->disk, "o", &error));
    db = disk_find_bitmap(r->disk, "b");
    dirty_bitmap_busy_begin(db);
#define BUSY "Bitmap 'b' is currently in use by another operation and cannot be used"
    refuse(BUSY, instant_bitmap_clear(i, r->disk, "b", &error));
    refuse(BUSY, instant_bitmap_remove(i, r->disk, "b", &error));
    refuse(BUSY, instant_bitmap_record(i, r->disk, "b", true, &error));
    refuse(BUSY, instant_bitmap_merge(i, r->disk, longest, r->disk, "b", &error));
    dirty_bitmap_busy_end(db);
    dirty_bitmap_unref(db);
    instant_abort(i);
    rig_free(r);
    rig_free(other);
}

/* Whoever asks a removed bitmap gets an error, never "clean". */
static void test_removed_is_an_error(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct dirty_bitmap *db;
    struct extents e = EXTENTS_INIT;
    struct instant *i;

    rig_bitmap(r, "b", 4096);
    db = disk_find_bitmap(r->disk, "b");
    rig_fill(r, 4096, 8192, 'a');
    g_assert_cmpint(dirty_bitmap_extents(db, 1 * MIB - 512, 512, false, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 3);
    g_assert_cmpuint(e.list[0].length, ==, 3584);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    g_assert_cmpuint(e.list[1].length, ==, 8192);
    g_assert_cmpuint(e.list[1].flags, ==, EXTENT_DIRTY);
    g_assert_cmpuint(e.total, ==, 1 * MIB - 512);
    extents_clear(&e);
    g_assert_cmpint(dirty_bitmap_extents(db, 1 * MIB, 0, true, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpuint(e.total, ==, 4096);
    i = instant_new();
    instant_bitmap_remove(i, r->disk, "b", NULL);
    commit(i);
    extents_clear(&e);
    g_assert_cmpint(dirty_bitmap_extents(db, 1 * MIB, 0, false, &e), ==, -EIO);
    g_assert_cmpuint(e.count, ==, 0);
    extents_free(&e);
    dirty_bitmap_unref(db);
    rig_free(r);
}

/* A write that is under way when the instant begins is wholly before it. A write that comes
 * meanwhile waits, and is wholly after it. */
struct freeze {
    struct rig *rig;
    struct view *view;
};

static gpointer freeze_task(gpointer p)
{
    struct freeze *f = p;
    struct view_options options = {0};
    struct instant *i = instant_new();
    GError *error = NULL;

    instant_view_create(i, f->rig->disk, "v", &options, &f->view, &error);
    g_assert_no_error(error);
    instant_bitmap_add(i, f->rig->disk, "b", 4096, true, false, &error);
    g_assert_no_error(error);
    commit(i);
    return NULL;
}

static void test_instant_waits_for_writes(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct freeze f = {.rig = r};
    GThread *before, *after, *freezer;

    park_arm(r, POINT_WRITE_MARKED, 0);
    before = rig_fill_thread(r, 0, 4096, 'a');
    park_wait(r);
    freezer = g_thread_new("freezer", freeze_task, &f);
    while (!atomic_load(&r->disk->gate.closed))
        sched_yield();
    after = rig_fill_thread(r, 4096, 4096, 'b');
    /* Reads go on while the gate is closed. */
    g_assert_true(node_is(disk_node(r->disk), 0, 8192, 0));
    park_release(r);
    g_thread_join(before);
    g_thread_join(freezer);
    g_thread_join(after);
    assert_view(f.view, 0, 4096, 'a');
    assert_view(f.view, 4096, 4096, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_free(r);
}

/* A write that comes when all gates are closed, and before the instant, is after the instant. */
static void test_write_at_closed_gates(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct freeze f = {.rig = r};
    GThread *freezer, *writer;

    park_arm(r, POINT_GATES_CLOSED, ANYWHERE);
    freezer = g_thread_new("freezer", freeze_task, &f);
    park_wait(r);
    writer = rig_fill_thread(r, 0, 4096, 'a');
    while (atomic_load(&r->io->slot->inside) != 0) /* it steps back, whenever it comes */
        sched_yield();
    g_assert_true(node_is(disk_node(r->disk), 0, 4096, 0));
    park_release(r);
    g_thread_join(freezer);
    g_thread_join(writer);
    assert_view(f.view, 0, 4096, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_free(r);
}

/* Writes between the copying of a merge and its instant are in the result. */
static void test_merge_while_recording(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();

    rig_bitmap(r, "source", 4096);
    rig_fill(r, 0, 4096, 'a');
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "target", 4096, false, false, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, "target", r->disk, "source", NULL), ==, 0);
    rig_fill(r, 8192, 4096, 'a');
    commit(i);
    g_assert_cmpuint(rig_count(r, "target"), ==, 8192);
    rig_fill(r, 16384, 4096, 'a');
    g_assert_cmpuint(rig_count(r, "target"), ==, 8192);
    g_assert_cmpuint(rig_count(r, "source"), ==, 3 * 4096);
    g_assert_cmpuint(r->disk->tracker->n, ==, 1);
    rig_free(r);
}

/* ---- resize ---- */

static void test_grow(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct instant *i = instant_new();
    struct view *v;

    rig_bitmap(r, "b", 4096);
    instant_bitmap_add(i, r->disk, "idle", 4096, false, false, NULL);
    commit(i);
    rig_fill(r, 0, 4096, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(disk_resize(r->disk, 128 * KIB, NULL), ==, 0);
    g_assert_cmpuint(disk_size(r->disk), ==, 128 * KIB);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096 + 64 * KIB);
    g_assert_cmpuint(rig_count(r, "idle"), ==, 0);
    g_assert_cmpuint(node_size(view_node(v)), ==, 64 * KIB);
    rig_fill(r, 0, 128 * KIB, 'b');
    assert_view(v, 0, 4096, 'a');
    assert_view(v, 4096, 60 * KIB, 0);
    rig_free(r);
}

static void test_resize_refused(void)
{
    struct fake_failure failure = {.call = FAKE_RESIZE, .error = -ENOSPC};
    struct rig *r = rig_new(64 * KIB, 0);

    rig_bitmap(r, "b", 4096);
    rig_fill(r, 0, 4096, 'a');
    refuse("disk vda: cannot shrink while a client is connected",
           disk_resize(r->disk, 4096, &error));
    fake_backend_fail(r->backend, &failure);
    refuse("disk vda: resize refused", disk_resize(r->disk, 128 * KIB, &error));
    g_assert_cmpuint(disk_size(r->disk), ==, 64 * KIB);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_fill(r, 8192, 4096, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    fake_backend_set_hook(r->backend, NULL, NULL);
    node_io_close(r->io);
    rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    refuse("disk vda: cannot shrink while it has views", disk_resize(r->disk, 4096, &error));
    rig_delete(r, r->disk->views->pdata[0]);
    g_assert_cmpint(disk_resize(r->disk, 32 * KIB, NULL), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    g_assert_cmpint(node_io_open(disk_node(r->disk), true, false, NULL, &r->io, NULL), ==, 0);
    g_assert_cmpuint(node_io_info(r->io)->size, ==, 32 * KIB);
    rig_free(r);
}

/* ---- several disks ---- */

struct pair {
    struct rig *rigs[2];
    struct view *views[2];
};

static gpointer freeze_both(gpointer p)
{
    struct pair *both = p;
    struct view_options options = {0};
    struct instant *i = instant_new();

    for (int d = 0; d < 2; d++) {
        g_autofree char *name = g_strdup_printf("v%d", d);

        g_assert_cmpint(
            instant_view_create(i, both->rigs[d]->disk, name, &options, &both->views[d], NULL), ==,
            0);
    }
    commit(i);
    return NULL;
}

/* A guest that writes to one disk, then to the other, never finds the second write in the views
 * without the first: a write to vda that begins while vdb still drains is after the instant. */
static void test_one_instant_over_disks(void)
{
    struct pair both = {.rigs = {rig_new(64 * KIB, 0), rig_new(64 * KIB, 0)}};
    GThread *freezer, *writer, *late;

    g_free(both.rigs[1]->disk->node.name);
    both.rigs[1]->disk->node.name = g_strdup("vdb");
    park_arm(both.rigs[1], POINT_WRITE_ENTERED, ANYWHERE);
    writer = rig_fill_thread(both.rigs[1], 0, 4096, 'x'); /* holds vdb's gate open */
    park_wait(both.rigs[1]);
    freezer = g_thread_new("freezer", freeze_both, &both);
    while (!atomic_load(&both.rigs[1]->disk->gate.closed))
        sched_yield();
    g_assert_true(atomic_load(&both.rigs[0]->disk->gate.closed)); /* it was closed first */
    late = rig_fill_thread(both.rigs[0], 0, 4096, 'y');
    park_release(both.rigs[1]);
    g_thread_join(freezer);
    g_thread_join(writer);
    g_thread_join(late);
    assert_view(both.views[0], 0, 4096, 0);
    assert_view(both.views[1], 0, 4096, 'x');
    rig_free(both.rigs[0]);
    rig_free(both.rigs[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instant/records-exactly", test_records_exactly);
    g_test_add_func("/instant/failed-write-stays-dirty", test_failed_write_stays_dirty);
    g_test_add_func("/instant/marked-before-written", test_marked_before_written);
    g_test_add_func("/instant/actions-in-order", test_actions_in_order);
    g_test_add_func("/instant/abort-leaves-nothing", test_abort_leaves_nothing);
    g_test_add_func("/instant/errors", test_errors);
    g_test_add_func("/instant/removed-is-an-error", test_removed_is_an_error);
    g_test_add_func("/instant/waits-for-writes", test_instant_waits_for_writes);
    g_test_add_func("/instant/write-at-closed-gates", test_write_at_closed_gates);
    g_test_add_func("/instant/merge-while-recording", test_merge_while_recording);
    g_test_add_func("/instant/grow", test_grow);
    g_test_add_func("/instant/resize-refused", test_resize_refused);
    g_test_add_func("/instant/one-instant-over-disks", test_one_instant_over_disks);
    return g_test_run();
}
