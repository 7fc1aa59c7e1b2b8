/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views: copy-before-write, the chain, and the races in between. Wherever two threads meet, one of
 * them stands at a point of enum disk_point, so that each run is the same.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

static bool broken(struct view *v)
{
    struct view_info info;

    view_info(v, &info);
    return info.broken;
}

static int try_read(struct view *v, uint64_t offset, uint32_t length)
{
    g_autofree char *buf = g_malloc(length);
    struct node_io *io;
    int error;

    g_assert_cmpint(node_io_open(view_node(v), false, false, NULL, &io, NULL), ==, 0);
    error = node_read(io, buf, length, offset, 0);
    node_io_close(io);
    return error;
}

static void test_keeps_once(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *v;

    rig_fill(r, 0, 1 * MIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 8192, 4096, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    rig_fill(r, 8192, 4096, 'c');
    rig_fill(r, 8200, 1, 'd');
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    rig_fill(r, 4095, 2, 'e'); /* two blocks, by one byte each */
    g_assert_cmpuint(rig_kept(v), ==, 3 * 4096);
    assert_view(v, 0, 1 * MIB, 'a');
    g_assert_true(node_is(disk_node(r->disk), 4095, 2, 'e'));
    rig_fill(r, 0, 1 * MIB, 'f');
    g_assert_cmpuint(rig_kept(v), ==, 1 * MIB);
    assert_view(v, 0, 1 * MIB, 'a');
    rig_delete(r, v);
    rig_free(r);
}

/* Data, zeroes and holes are told apart, and only data takes space. */
static void test_zeroes_and_holes(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    struct view *v;

    rig_fill(r, 0, 4096, 'a');
    rig_fill(r, 4096, 4096, 0);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 512 * KIB, 'b');
    g_assert_cmpint(node_trim(r->io, 256 * KIB, 512 * KIB, 0), ==, 0);
    g_assert_cmpint(node_zero(r->io, 4096, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    assert_view(v, 0, 4096, 'a');
    assert_view(v, 4096, 1 * MIB - 4096, 0);

    g_assert_cmpint(node_io_open(view_node(v), false, false, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_extents(io, 1 * MIB, 0, 0, &e), ==, 0);
    node_io_close(io);
    g_assert_cmpuint(e.count, ==, 3);
    g_assert_cmpuint(e.list[0].length, ==, 4096);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    g_assert_cmpuint(e.list[1].length, ==, 4096);
    g_assert_cmpuint(e.list[1].flags, ==, EXTENT_ZERO);
    g_assert_cmpuint(e.list[2].length, ==, 1 * MIB - 8192);
    g_assert_cmpuint(e.list[2].flags, ==, EXTENT_HOLE | EXTENT_ZERO);
    extents_free(&e);
    rig_free(r);
}

/* Trimming a sparse disk under a view reads nothing, keeps nothing, and marks only where data is.
 */
static void test_trim_of_holes_reads_nothing(void)
{
    struct rig *r = rig_new(64 * MIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);

    rig_bitmap(r, "b", 65536);
    g_assert_cmpint(node_trim(r->io, 64 * MIB, 0, 0), ==, 0);
    g_assert_cmpuint(fake_backend_bytes_read(r->backend), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_TRIM), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 0);
    g_assert_cmpuint(bitmap_count(v->touched), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 64 * MIB);
    rig_delete(r, v);

    rig_fill(r, 33 * MIB, 4096, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_zero(r->io, 64 * MIB, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    g_assert_cmpuint(bitmap_count(v->touched), ==, VIEW_TOUCHED_UNIT);
    assert_view(v, 33 * MIB, 4096, 'a');
    assert_view(v, 34 * MIB, 1 * MIB, 0);
    g_assert_true(node_is(disk_node(r->disk), 33 * MIB, 4096, 0));
    rig_free(r);
}

/* The same for what is zeroed in one piece: fast, or keeping the space. */
static void test_zero_of_holes(gconstpointer flags)
{
    struct rig *r = rig_new(64 * MIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);

    g_assert_cmpint(node_zero(r->io, 64 * MIB, 0, GPOINTER_TO_UINT(flags)), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_ZERO), ==, 1);
    g_assert_cmpuint(bitmap_count(v->touched), ==, 0);
    rig_delete(r, v);
    rig_free(r);

    r = rig_new(64 * MIB, 0);
    rig_fill(r, 33 * MIB, 4096, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_zero(r->io, 64 * MIB, 0, GPOINTER_TO_UINT(flags)), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    g_assert_cmpuint(bitmap_count(v->touched), ==, VIEW_TOUCHED_UNIT);
    assert_view(v, 33 * MIB, 4096, 'a');
    assert_view(v, 34 * MIB, 1 * MIB, 0);
    g_assert_true(node_is(disk_node(r->disk), 33 * MIB, 4096, 0));
    rig_fill(r, 40 * MIB, 4096, 'b'); /* what was a hole is kept by who fills it */
    assert_view(v, 40 * MIB, 4096, 0);
    rig_free(r);
}

static void test_odd_sizes(void)
{
    struct rig *r = rig_new(10000, 0);
    struct view *v;

    rig_fill(r, 0, 10000, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 9999, 1, 'b');
    assert_view(v, 0, 10000, 'a');
    rig_fill(r, 0, 10000, 'b');
    assert_view(v, 0, 10000, 'a');
    assert_view(v, 8190, 1810, 'a');
    rig_free(r);
}

static void test_min_block_is_the_unit(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *v;

    node_io_close(r->io);
    disk_free(r->disk);
    r->backend = fake_backend_new(1 * MIB);
    fake_backend_set_min_block(r->backend, 65536);
    r->disk = disk_new(
        &(struct disk_config){.name = "vda", .backend = r->backend, .scratch = r->pool}, NULL);
    g_assert_cmpint(node_io_open(disk_node(r->disk), true, false, NULL, &r->io, NULL), ==, 0);
    rig_fill(r, 0, 1 * MIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 65536, 65536, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 65536);
    assert_view(v, 0, 1 * MIB, 'a');
    rig_free(r);
}

/* Three views, each block kept once for the newest that needs it; then delete in every order. */
static void test_chain(gconstpointer order_string)
{
    const char *order = order_string;
    struct rig *r = rig_new(256 * KIB, 0);
    struct view *v[3];
    bool gone[3] = {false, false, false};

    rig_fill(r, 0, 256 * KIB, 'a');
    v[0] = rig_view(r, "v0", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 128 * KIB, 'b');
    v[1] = rig_view(r, "v1", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 64 * KIB, 128 * KIB, 'c');
    v[2] = rig_view(r, "v2", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 256 * KIB, 'd');
    g_assert_cmpuint(rig_kept(v[0]), ==, 128 * KIB);
    g_assert_cmpuint(rig_kept(v[1]), ==, 128 * KIB);
    g_assert_cmpuint(rig_kept(v[2]), ==, 256 * KIB);

    for (int step = 0; step <= 3; step++) {
        if (!gone[0])
            assert_view(v[0], 0, 256 * KIB, 'a');
        if (!gone[1]) {
            assert_view(v[1], 0, 128 * KIB, 'b');
            assert_view(v[1], 128 * KIB, 128 * KIB, 'a');
        }
        if (!gone[2]) {
            assert_view(v[2], 0, 64 * KIB, 'b');
            assert_view(v[2], 64 * KIB, 128 * KIB, 'c');
            assert_view(v[2], 192 * KIB, 64 * KIB, 'a');
        }
        if (step < 3) {
            int which = order[step] - '0';

            rig_delete(r, v[which]);
            gone[which] = true;
            rig_fill(r, (uint64_t)step * 20 * KIB, 100 * KIB, 'x');
        }
    }
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 0);
    rig_free(r);
}

/* What is deleted and nobody needs comes back to the budget at once. */
static void test_delete_frees(void)
{
    struct rig *r = rig_new(256 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 256 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 64 * KIB, 'b');
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 128 * KIB, 'c');
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 64 * KIB + 128 * KIB);
    rig_delete(r, new); /* half of it is needed by old */
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 128 * KIB);
    assert_view(old, 0, 256 * KIB, 'a');
    rig_fill(r, 0, 256 * KIB, 'd');
    assert_view(old, 0, 256 * KIB, 'a');
    rig_free(r);
}

/* ---- races ---- */

/* A writer that is copying a block, before or after it read the old data: a view's reader gets the
 * old data without waiting; another writer to the block waits until it is kept. */
static void test_reader_and_writer_meet_copying(gconstpointer point)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;
    GThread *first, *second;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    park_arm(r, (enum disk_point)GPOINTER_TO_INT(point), ANYWHERE);
    first = rig_fill_thread(r, 4096, 4096, 'b');
    park_wait(r);
    assert_view(v, 0, 64 * KIB, 'a'); /* it returns: nobody waits for the parked writer */

    second = rig_fill_thread(r, 4096, 4096, 'c');
    while (atomic_load(&v->map[1]) != BLOCK_CONTENDED)
        sched_yield();
    g_assert_true(node_is(disk_node(r->disk), 4096, 4096, 'a')); /* none has written yet */
    rig_fill(r, 8192, 4096, 'd');                                /* other blocks are not held up */
    assert_view(v, 0, 64 * KIB, 'a');
    park_release(r);
    g_thread_join(first);
    g_thread_join(second);
    assert_view(v, 0, 64 * KIB, 'a');
    g_assert_cmpuint(rig_kept(v), ==, 8192);
    rig_free(r);
}

/* A view's reader has read the disk; before it looks again the block is kept and overwritten. */
static void test_reader_overtaken(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;
    GThread *reader;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    park_arm(r, POINT_VIEW_BASE_READ, ANYWHERE);
    reader = rig_check_thread(v, 0, 64 * KIB, 'a');
    park_wait(r);
    rig_fill(r, 4096, 20000, 'b');
    park_release(r);
    g_thread_join(reader);

    /* And the other way round: the writer stands between `kept` and its write. */
    park_arm(r, POINT_WRITE_MARKED, ANYWHERE);
    reader = rig_fill_thread(r, 32 * KIB, 4096, 'c');
    park_wait(r);
    assert_view(v, 0, 64 * KIB, 'a');
    park_release(r);
    g_thread_join(reader);
    assert_view(v, 0, 64 * KIB, 'a');
    rig_free(r);
}

static gpointer delete_task(gpointer v)
{
    GError *error = NULL;

    view_delete(v, &error);
    g_assert_no_error(error);
    return NULL;
}

/* A reader of the older view is under way while the newer one, which holds what it needs, goes. */
static void test_reader_while_newer_is_deleted(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;
    GThread *reader, *deleter;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    park_arm(r, POINT_VIEW_BASE_READ, ANYWHERE);
    reader = rig_check_thread(old, 0, 64 * KIB, 'a');
    park_wait(r);
    rig_fill(r, 4096, 4096, 'b'); /* kept in `new`, after the reader's read */
    deleter = g_thread_new("deleter", delete_task, new);
    /* The deleter unlinks `new`, then waits for the reader; a writer gets through all the while. */
    while (atomic_load(&r->disk->newest) != old)
        sched_yield();
    rig_fill(r, 8192, 4096, 'b');
    park_release(r);
    g_thread_join(reader);
    g_thread_join(deleter);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* Blocks were handed over, the view still hangs in the chain: writers and readers go on. */
static void test_write_in_mid_deletion(void)
{
    struct rig *r = rig_new(8 * MIB, 0);
    struct view *old, *new;
    GThread *deleter;

    rig_fill(r, 0, 8 * MIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 8192, 'b');
    park_arm(r, POINT_HANDED_OVER, ANYWHERE);
    deleter = g_thread_new("deleter", delete_task, new);
    park_wait(r);
    rig_fill(r, 4096, 8192, 'c');
    rig_fill(r, 6 * MIB, 4096, 'c'); /* far from all that was kept before */
    assert_view(old, 0, 8 * MIB, 'a');
    park_release(r);
    g_thread_join(deleter);
    assert_view(old, 0, 8 * MIB, 'a');
    g_assert_cmpuint(rig_kept(old), ==, 16384);
    rig_free(r);
}

static gpointer delete_in_vain(gpointer v)
{
    GError *error = NULL;

    g_assert_cmpint(view_delete(v, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "disk vda: writes under way did not end within"));
    g_error_free(error);
    return NULL;
}

/* A write hangs between the two times that a deletion closes the gate: the command fails, other
 * writes go on, the older view has its blocks, and the deletion can be done again. */
static void test_write_hangs_in_mid_deletion(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;
    struct view_info info;
    GThread *deleter, *writer;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 8192, 'c');
    park_arm(r, POINT_HANDED_OVER, ANYWHERE);
    deleter = g_thread_new("deleter", delete_in_vain, new);
    park_wait(r);
    r->disk->drain_usec = 1000;                /* the deleter reads it after its release */
    atomic_fetch_add(&r->io->slot->inside, 1); /* a write that hangs */
    park_release(r);
    g_thread_join(deleter);
    view_info(new, &info);
    g_assert_true(info.broken);
    g_assert_nonnull(strstr(info.reason, "its deletion was begun"));
    g_assert_cmpuint(rig_kept(new), ==, 0);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 8192);
    g_assert_cmpint(try_read(new, 0, 4096), ==, -EIO);
    writer = rig_fill_thread(r, 8192, 4096, 'd');
    g_thread_join(writer);
    assert_view(old, 0, 64 * KIB, 'a');
    gate_leave(r->io->slot);
    r->disk->drain_usec = DRAIN_USEC;
    rig_delete(r, new);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* A writer has claimed a block of the newest view, which breaks before it looks at its state again:
 * it gives the block back, and the older view gets it. */
static void test_claim_of_a_breaking_view(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;
    GThread *writer;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b'); /* old has block 0 of its own: it survives new's break there */
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    park_arm(r, POINT_KEEP_CLAIMING, 8192);
    writer = rig_fill_thread(r, 8192, 4096, 'c');
    park_wait(r);
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 0, 4096, 'd');
    g_assert_true(broken(new));
    g_assert_false(broken(old));
    park_release(r);
    g_thread_join(writer);
    assert_view(old, 0, 64 * KIB, 'a');
    g_assert_cmpuint(atomic_load(&old->map[2]), >=, BLOCK_KEPT_SLOT);
    g_assert_cmpuint(atomic_load(&new->map[2]), ==, BLOCK_NEEDED);
    rig_free(r);
}

/* ---- when it cannot be kept ---- */

static void test_break_snapshot(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;
    struct view_info info;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 4096, 4096, 'b'); /* the guest notices nothing */
    g_assert_true(node_is(disk_node(r->disk), 0, 8192, 'b'));
    g_assert_cmpint(try_read(v, 0, 512), ==, -EIO);
    g_assert_cmpuint(atomic_load(&r->broken_events), ==, 1);
    g_assert_cmpstr(r->broken_view, ==, "v");
    view_info(v, &info);
    g_assert_true(info.broken);
    g_assert_nonnull(strstr(info.reason, "disk vda: scratch: write at "));
    rig_fill(r, 0, 64 * KIB, 'c'); /* and nothing more is kept for it */
    g_assert_cmpuint(rig_kept(v), ==, 4096);
    rig_delete(r, v);
    rig_free(r);
}

static void test_break_guest_write(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    rig_bitmap(r, "b", 4096);
    v = rig_view(r, "v", CBW_BREAK_GUEST_WRITE, 0);
    atomic_store(&r->failing_scratch_writes, 1);
    g_assert_cmpint(rig_try_fill(r, 4096, 4096, 'b'), ==, -EIO);
    g_assert_true(node_is(disk_node(r->disk), 0, 64 * KIB, 'a'));
    assert_view(v, 0, 64 * KIB, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, 0);
    rig_fill(r, 4096, 4096, 'b'); /* it can be kept again, so the guest may write */
    assert_view(v, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* An older view breaks with the newest only where it needs the block from it. */
static void test_break_only_who_needs_it(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *oldest, *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    oldest = rig_view(r, "oldest", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 0, 4096, 'c');
    g_assert_false(broken(oldest));
    g_assert_true(broken(old));
    g_assert_true(broken(new));
    rig_fill(r, 0, 64 * KIB, 'd');
    assert_view(oldest, 0, 64 * KIB, 'a');
    rig_delete(r, old);
    rig_delete(r, new);
    assert_view(oldest, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* The view's own limit breaks that view alone; the older one keeps for itself from then on. */
static void test_own_limit(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 8192);
    rig_fill(r, 0, 8192, 'b');
    g_assert_false(broken(new));
    rig_fill(r, 8192, 4096, 'b');
    g_assert_true(broken(new));
    g_assert_false(broken(old));
    assert_view(old, 0, 64 * KIB, 'a');
    rig_fill(r, 0, 64 * KIB, 'c');
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

static void test_pool_limit(void)
{
    struct rig *r = rig_new(64 * KIB, 16384);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 16384, 'b');
    assert_view(v, 0, 64 * KIB, 'a');
    rig_fill(r, 16384, 4096, 'b');
    g_assert_true(broken(v));
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 16384);
    rig_delete(r, v);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 0);
    v = rig_view(r, "again", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 16384, 'c');
    g_assert_false(broken(v));
    rig_free(r);
}

static int fail_reads(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    return call == FAKE_READ && *(bool *)opaque ? -EIO : 0;
}

/* Old data that cannot be read cannot be kept. */
static void test_backend_cannot_read(void)
{
    static bool failing;
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    failing = true;
    fake_backend_set_hook(r->backend, fail_reads, &failing);
    rig_fill(r, 0, 4096, 'b');
    failing = false;
    g_assert_true(broken(v));
    g_assert_true(node_is(disk_node(r->disk), 0, 4096, 'b'));
    rig_free(r);
}

/* ---- deletion ---- */

static bool all_given_back(struct rig *r)
{
    struct grace *g = &r->disk->readers;
    bool all;

    pthread_mutex_lock(&g->lock);
    all = g_queue_is_empty(&g->next) && g_queue_is_empty(&g->now) && atomic_load(&g->calling) == 0;
    pthread_mutex_unlock(&g->lock);
    return all;
}

/* A view is deleted while the read of an older one hangs: the deletion does not hang with it. What
 * that reader may have met is given back when it has gone, by that reader. */
static void test_delete_while_a_reader_hangs(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new, *last;
    GThread *reader;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 4096, 'b');
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    last = rig_view(r, "last", CBW_BREAK_SNAPSHOT, 0);
    rig_delete(r, last);
    g_assert_true(all_given_back(r));
    last = rig_view(r, "last", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 8192, 'c');
    park_arm(r, POINT_VIEW_BASE_READ, ANYWHERE);
    reader = rig_check_thread(old, 12288, 4096, 'a');
    park_wait(r);
    rig_delete(r, last); /* its blocks go to `new` */
    rig_delete(r, new);  /* one goes to `old`, which has the other */
    g_assert_false(all_given_back(r));
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 12288);
    assert_view(old, 0, 8192, 'a'); /* readers who come now are not waited for */
    rig_fill(r, 12288, 4096, 'd');
    park_release(r);
    g_thread_join(reader);
    g_assert_true(all_given_back(r));
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 12288);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_delete(r, old);
    g_assert_null(r->disk->scratch);
    rig_free(r);
}

static void test_in_use(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    GError *error = NULL;

    view_use_begin(v);
    g_assert_cmpint(view_delete(v, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "Node v is in use");
    g_clear_error(&error);
    view_use_end(v);
    rig_delete(r, v);
    rig_free(r);
}

int main(int argc, char **argv)
{
    static const char *const orders[] = {"012", "021", "102", "120", "201", "210"};

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view/keeps-once", test_keeps_once);
    g_test_add_func("/view/zeroes-and-holes", test_zeroes_and_holes);
    g_test_add_func("/view/trim-of-holes-reads-nothing", test_trim_of_holes_reads_nothing);
    g_test_add_data_func("/view/fast-zero-of-holes",
                         GUINT_TO_POINTER(BACKEND_MAY_TRIM | BACKEND_FAST), test_zero_of_holes);
    g_test_add_data_func("/view/zero-of-holes-keeping-space", NULL, test_zero_of_holes);
    g_test_add_func("/view/odd-sizes", test_odd_sizes);
    g_test_add_func("/view/min-block-is-the-unit", test_min_block_is_the_unit);
    for (unsigned i = 0; i < G_N_ELEMENTS(orders); i++) {
        g_autofree char *path = g_strdup_printf("/view/chain/%s", orders[i]);

        g_test_add_data_func(path, orders[i], test_chain);
    }
    g_test_add_func("/view/delete-frees", test_delete_frees);
    g_test_add_data_func("/view/meet-copying/claimed", GINT_TO_POINTER(POINT_KEEP_CLAIMED),
                         test_reader_and_writer_meet_copying);
    g_test_add_data_func("/view/meet-copying/read", GINT_TO_POINTER(POINT_KEEP_READ),
                         test_reader_and_writer_meet_copying);
    g_test_add_func("/view/reader-overtaken", test_reader_overtaken);
    g_test_add_func("/view/reader-while-newer-is-deleted", test_reader_while_newer_is_deleted);
    g_test_add_func("/view/write-in-mid-deletion", test_write_in_mid_deletion);
    g_test_add_func("/view/write-hangs-in-mid-deletion", test_write_hangs_in_mid_deletion);
    g_test_add_func("/view/claim-of-a-breaking-view", test_claim_of_a_breaking_view);
    g_test_add_func("/view/break-snapshot", test_break_snapshot);
    g_test_add_func("/view/break-guest-write", test_break_guest_write);
    g_test_add_func("/view/break-only-who-needs-it", test_break_only_who_needs_it);
    g_test_add_func("/view/own-limit", test_own_limit);
    g_test_add_func("/view/pool-limit", test_pool_limit);
    g_test_add_func("/view/backend-cannot-read", test_backend_cannot_read);
    g_test_add_func("/view/delete-while-a-reader-hangs", test_delete_while_a_reader_hangs);
    g_test_add_func("/view/in-use", test_in_use);
    return g_test_run();
}
