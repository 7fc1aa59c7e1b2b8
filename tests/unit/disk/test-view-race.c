/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views: writers, readers and deletions that meet. Wherever two threads meet, one of them stands at a
 * point of enum disk_point, so that each run is the same.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

/* A writer is copying a block, and stands before or after its read of the old data. A view's reader
 * gets the old data without waiting. Another writer to the block waits until it is kept. */
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

    /* Now the writer stands between keeping the block and writing it. */
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

/* A reader of the older view is under way while the newer view is deleted, which holds blocks that
 * the reader needs. */
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

/* A deletion has handed its blocks over, and the view still hangs in the chain: writers and readers
 * go on. */
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

/* A write hangs between the two times that a deletion closes the gate. The command fails and other
 * writes go on. The older view has its blocks, and the deletion can be done again. */
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
    g_assert_cmpint(rig_try_read(new, 0, 4096), ==, -EIO);
    writer = rig_fill_thread(r, 8192, 4096, 'd');
    g_thread_join(writer);
    assert_view(old, 0, 64 * KIB, 'a');
    gate_leave(r->io->slot);
    r->disk->drain_usec = DRAIN_USEC;
    rig_delete(r, new);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* A writer has claimed a block of the newest view, which breaks before the writer looks at its
 * state again. The writer gives the block back, and the older view gets it. */
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
    g_assert_true(view_is_broken(new));
    g_assert_false(view_is_broken(old));
    park_release(r);
    g_thread_join(writer);
    assert_view(old, 0, 64 * KIB, 'a');
    g_assert_cmpuint(atomic_load(&old->map[2]), >=, BLOCK_KEPT_SLOT);
    g_assert_cmpuint(atomic_load(&new->map[2]), ==, BLOCK_NEEDED);
    rig_free(r);
}

static bool all_given_back(struct rig *r)
{
    struct grace *g = &r->disk->readers;
    bool all;

    pthread_mutex_lock(&g->lock);
    all = g_queue_is_empty(&g->next) && g_queue_is_empty(&g->now) && atomic_load(&g->calling) == 0;
    pthread_mutex_unlock(&g->lock);
    return all;
}

/* A view is deleted while the read of an older one hangs. The deletion does not hang with it. That
 * reader, when it leaves, gives back what it may have met. */
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
    assert_view(old, 0, 8192, 'a'); /* nobody waits for readers who come now */
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/view-race/meet-copying/claimed", GINT_TO_POINTER(POINT_KEEP_CLAIMED),
                         test_reader_and_writer_meet_copying);
    g_test_add_data_func("/view-race/meet-copying/read", GINT_TO_POINTER(POINT_KEEP_READ),
                         test_reader_and_writer_meet_copying);
    g_test_add_func("/view-race/reader-overtaken", test_reader_overtaken);
    g_test_add_func("/view-race/reader-while-newer-is-deleted", test_reader_while_newer_is_deleted);
    g_test_add_func("/view-race/write-in-mid-deletion", test_write_in_mid_deletion);
    g_test_add_func("/view-race/write-hangs-in-mid-deletion", test_write_hangs_in_mid_deletion);
    g_test_add_func("/view-race/claim-of-a-breaking-view", test_claim_of_a_breaking_view);
    g_test_add_func("/view-race/delete-while-a-reader-hangs", test_delete_while_a_reader_hangs);
    return g_test_run();
}
