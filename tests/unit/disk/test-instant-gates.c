/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants over several disks, and instants that copy bits: how long guests wait for them, and what
 * happens to writes between two of their steps.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <sched.h>

#define N_DISKS 4
/* For events that come at once unless something is wrong. */
#define LIMIT (60 * G_USEC_PER_SEC)

static struct rig *named_rig(const char *name)
{
    struct rig *r = rig_new(1 * MIB, 0);

    g_free(r->disk->node.name);
    r->disk->node.name = g_strdup(name);
    return r;
}

static void add(struct rig *r, const char *name, uint32_t granularity, bool recording)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, r->disk, name, granularity, recording, false, NULL), ==,
                    0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
}

static void merge(struct instant *i, struct rig *r, const char *target, const char *source)
{
    g_assert_cmpint(instant_bitmap_merge(i, r->disk, target, r->disk, source, NULL), ==, 0);
}

static gpointer commit_task(gpointer instant)
{
    GError *error = NULL;

    instant_commit(instant, &error);
    return error;
}

static void assert_committed(GThread *committer)
{
    GError *error = g_thread_join(committer);

    g_assert_no_error(error);
}

/* ---- many disks ---- */

/* All gates are shut while a write is under way on each disk: so the guests of the last disk wait
 * for their own disk's write, and not for those of all disks before it. */
static void test_pause_of_one_drain(void)
{
    struct rig *rigs[N_DISKS];
    GThread *writers[N_DISKS], *committer;
    struct instant *i = instant_new();
    gint64 end;

    for (int d = 0; d < N_DISKS; d++) {
        g_autofree char *name = g_strdup_printf("d%d", d);

        rigs[d] = named_rig(name);
        g_assert_cmpint(instant_bitmap_add(i, rigs[d]->disk, "b", 4096, true, false, NULL), ==, 0);
        park_arm(rigs[d], POINT_WRITE_MARKED, 0);
        writers[d] = rig_fill_thread(rigs[d], 0, 4096, 'a');
        park_wait(rigs[d]);
    }
    committer = g_thread_new("committer", commit_task, i);
    end = g_get_monotonic_time() + rigs[0]->disk->drain_usec / 2;
    for (int d = 0; d < N_DISKS; d++)
        while (!atomic_load(&rigs[d]->disk->gate.closed)) {
            g_assert_cmpint(g_get_monotonic_time(), <, end);
            sched_yield();
        }
    /* It makes no difference which write ends first. No gate opens before the last has ended. */
    for (int d = N_DISKS - 1; d >= 0; d--) {
        for (int other = 0; other < N_DISKS; other++)
            g_assert_true(atomic_load(&rigs[other]->disk->gate.closed));
        park_release(rigs[d]);
        g_thread_join(writers[d]);
    }
    assert_committed(committer);
    for (int d = 0; d < N_DISKS; d++) {
        g_assert_cmpuint(rig_count(rigs[d], "b"), ==, 0);
        rig_fill(rigs[d], 0, 4096, 'b');
        g_assert_cmpuint(rig_count(rigs[d], "b"), ==, 4096);
        rig_free(rigs[d]);
    }
}

/* When one disk makes an instant fail, the guests of no disk are left waiting. */
static void test_gates_open_after_timeout(void)
{
    struct rig *rigs[3] = {named_rig("a"), named_rig("b"), named_rig("c")};
    struct instant *i = instant_new();
    GError *error = NULL;
    GThread *writer;

    park_arm(rigs[1], POINT_WRITE_ENTERED, ANYWHERE);
    writer = rig_fill_thread(rigs[1], 0, 4096, 'x');
    park_wait(rigs[1]);
    rigs[1]->disk->drain_usec = G_USEC_PER_SEC / 20;
    for (int d = 0; d < 3; d++)
        g_assert_cmpint(instant_bitmap_add(i, rigs[d]->disk, "b", 4096, true, false, NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "disk b: writes under way did not end within 0 s");
    g_error_free(error);
    for (int d = 0; d < 3; d++) {
        g_autoptr(GPtrArray) bitmaps = disk_bitmaps(rigs[d]->disk);

        g_assert_false(atomic_load(&rigs[d]->disk->gate.closed));
        g_assert_cmpuint(bitmaps->len, ==, 0);
        rig_fill(rigs[d], 8192, 4096, 'y');
    }
    park_release(rigs[1]);
    g_thread_join(writer);
    for (int d = 0; d < 3; d++)
        rig_free(rigs[d]);
}

/* ---- merges ---- */

/* No action waits for a write. The shadows of any number of merges cost one closing of the gate. */
static void count_shadowed(struct rig *r, enum disk_point point)
{
    if (point == POINT_SHADOWED)
        ++*(unsigned *)r->visitor;
}

static void test_many_merges_close_once(void)
{
    struct rig *r = named_rig("vda");
    struct instant *i = instant_new();
    unsigned closings = 0;
    GThread *writer;

    add(r, "source", 4096, true);
    for (int k = 0; k < 50; k++) {
        g_autofree char *name = g_strdup_printf("t%d", k);

        add(r, name, 4096, k % 2);
    }
    rig_fill(r, 0, 4096, 'a');
    park_arm(r, POINT_WRITE_MARKED, 8192);
    writer = rig_fill_thread(r, 8192, 4096, 'a');
    park_wait(r);
    r->disk->drain_usec = 0; /* an action that waited would fail */
    for (int k = 0; k < 50; k++) {
        g_autofree char *name = g_strdup_printf("t%d", k);

        merge(i, r, name, "source");
    }
    r->disk->drain_usec = LIMIT;
    park_release(r);
    g_thread_join(writer);
    r->visit = count_shadowed;
    r->visitor = &closings;
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    g_assert_cmpuint(closings, ==, 1);
    for (int k = 0; k < 50; k++) {
        g_autofree char *name = g_strdup_printf("t%d", k);

        g_assert_cmpuint(rig_count(r, name), ==, 8192);
    }
    g_assert_cmpuint(r->disk->tracker->n, ==, 26);
    rig_free(r);
}

/* A write of 512 bytes at each point that an instant with merges passes, each into 128 KiB of its
 * own. */
static uint64_t place_of(enum disk_point point)
{
    return point == POINT_SHADOWED ? 256 * KIB : 512 * KIB;
}

static void write_at_points(struct rig *r, enum disk_point point)
{
    if (point == POINT_SHADOWED || point == POINT_BITS_COPIED)
        rig_fill(r, place_of(point), 512, 'p');
}

static void commit_with_writes(struct rig *r, struct instant *i)
{
    r->visit = write_at_points;
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    r->visit = NULL;
}

/* The target is cleared first. So what is written before the instant comes from the source, before
 * the bits are copied and after, in granules of the coarser bitmap. */
static void clear_and_merge(uint32_t source, uint32_t target)
{
    struct rig *r = named_rig("vda");
    struct instant *i = instant_new();
    uint32_t coarser = MAX(source, target);

    add(r, "source", source, true);
    add(r, "target", target, true);
    rig_fill(r, 0, 512, 'a');
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "target", NULL), ==, 0);
    merge(i, r, "target", "source");
    rig_fill(r, 128 * KIB, 512, 'b');
    commit_with_writes(r, i);
    g_assert_cmpuint(rig_count(r, "source"), ==, 4 * source);
    g_assert_cmpuint(rig_count(r, "target"), ==, 4 * coarser);
    rig_fill(r, 640 * KIB, 512, 'c');
    g_assert_cmpuint(rig_count(r, "target"), ==, 4 * coarser + target);
    g_assert_cmpuint(r->disk->tracker->n, ==, 2);
    rig_free(r);
}

static void test_clear_and_merge(void)
{
    clear_and_merge(4096, 4096);
    clear_and_merge(512, 65536);
    clear_and_merge(65536, 512);
}

/* A bitmap is merged into another and then gets bits itself: the other has none of these. */
static void test_merge_chain(void)
{
    struct rig *r = named_rig("vda");
    struct instant *i = instant_new();

    add(r, "a", 4096, true);
    add(r, "b", 4096, false);
    add(r, "c", 4096, false);
    rig_fill(r, 0, 512, 'a');
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "b", NULL), ==, 0);
    merge(i, r, "c", "b"); /* nothing */
    merge(i, r, "b", "a");
    g_assert_cmpint(instant_bitmap_add(i, r->disk, "d", 4096, false, false, NULL), ==, 0);
    merge(i, r, "d", "b");
    g_assert_cmpint(instant_bitmap_clear(i, r->disk, "a", NULL), ==, 0);
    merge(i, r, "b", "a"); /* nothing more */
    commit_with_writes(r, i);
    g_assert_cmpuint(rig_count(r, "a"), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 3 * 4096);
    g_assert_cmpuint(rig_count(r, "c"), ==, 0);
    g_assert_cmpuint(rig_count(r, "d"), ==, 3 * 4096);
    rig_fill(r, 768 * KIB, 512, 'b');
    g_assert_cmpuint(rig_count(r, "a"), ==, 4096);
    g_assert_cmpuint(rig_count(r, "b"), ==, 3 * 4096);
    rig_free(r);
}

/* A write that is under way when the merge begins, and has marked nothing yet, is in the result. */
static void test_merge_waits_for_writes(void)
{
    struct rig *r = named_rig("vda");
    struct instant *i = instant_new();
    GThread *writer, *committer;

    add(r, "source", 4096, true);
    add(r, "target", 4096, false);
    merge(i, r, "target", "source");
    park_arm(r, POINT_WRITE_ENTERED, 0);
    writer = rig_fill_thread(r, 0, 512, 'a');
    park_wait(r);
    committer = g_thread_new("committer", commit_task, i);
    while (!atomic_load(&r->disk->gate.closed))
        sched_yield();
    park_release(r);
    g_thread_join(writer);
    assert_committed(committer);
    g_assert_cmpuint(rig_count(r, "target"), ==, 4096);
    rig_free(r);
}

/* A merge from another disk changes nothing on that disk. */
static void test_merge_from_another_disk(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b");
    struct instant *i = instant_new();

    add(a, "source", 4096, true);
    add(b, "target", 4096, true);
    rig_fill(a, 0, 512, 'a');
    g_assert_cmpint(instant_bitmap_merge(i, b->disk, "target", a->disk, "source", NULL), ==, 0);
    a->visit = write_at_points;
    commit_with_writes(b, i);
    a->visit = NULL;
    g_assert_cmpuint(rig_count(a, "source"), ==, 3 * 4096);
    g_assert_cmpuint(rig_count(b, "target"), ==, 3 * 4096);
    rig_fill(a, 768 * KIB, 512, 'a');
    g_assert_cmpuint(rig_count(b, "target"), ==, 3 * 4096);
    g_assert_cmpuint(a->disk->tracker->n, ==, 1);
    rig_free(a);
    rig_free(b);
}

/* If writes under way do not end, before the shadows or after them, the bitmaps are as they were,
 * and later writes are in them. */
static void block_after_copy(struct rig *r, enum disk_point point)
{
    GThread **writer = r->visitor;

    if (point != POINT_BITS_COPIED || *writer)
        return;
    park_arm(r, POINT_WRITE_MARKED, 64 * KIB);
    *writer = rig_fill_thread(r, 64 * KIB, 512, 'x');
    park_wait(r);
}

static void failing_merge(bool after_shadows)
{
    struct rig *r = named_rig("vda");
    struct instant *i = instant_new();
    GThread *writer = NULL;
    GError *error = NULL;

    add(r, "source", 4096, true);
    add(r, "target", 4096, false);
    rig_fill(r, 0, 512, 'a');
    merge(i, r, "target", "source");
    r->visitor = &writer;
    if (after_shadows)
        r->visit = block_after_copy;
    else
        block_after_copy(r, POINT_BITS_COPIED);
    r->disk->drain_usec = G_USEC_PER_SEC / 20;
    g_assert_cmpint(instant_commit(i, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "disk vda: writes under way did not end within 0 s");
    g_error_free(error);
    r->visit = NULL;
    r->disk->drain_usec = LIMIT;
    g_assert_false(atomic_load(&r->disk->gate.closed));
    rig_fill(r, 128 * KIB, 512, 'b');
    park_release(r);
    g_thread_join(writer);
    g_assert_cmpuint(rig_count(r, "source"), ==, 3 * 4096);
    g_assert_cmpuint(rig_count(r, "target"), ==, 0);
    add(r, "next", 4096, false); /* an instant also removes what an earlier one has left */
    g_assert_cmpuint(r->disk->tracker->n, ==, 1);
    rig_free(r);
}

static void test_merge_that_fails(void)
{
    failing_merge(false);
    failing_merge(true);
}

/* When one disk makes an instant fail, the shadows on the others are removed. */
static void test_shadows_leave(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b");
    struct instant *i = instant_new();
    GThread *writer = NULL;

    add(a, "source", 4096, true);
    add(a, "target", 4096, false);
    add(b, "source", 4096, true);
    add(b, "target", 4096, false);
    merge(i, a, "target", "source");
    merge(i, b, "target", "source");
    b->visit = block_after_copy;
    b->visitor = &writer;
    b->disk->drain_usec = G_USEC_PER_SEC / 20;
    g_assert_cmpint(instant_commit(i, NULL), ==, -1);
    g_assert_cmpuint(a->disk->tracker->n, ==, 1);
    b->visit = NULL;
    park_release(b);
    g_thread_join(writer);
    rig_free(a);
    rig_free(b);
}

/* ---- resize ---- */

/* A client that comes between the first look and the instant keeps the disk from shrinking. */
static void come_at_closed_gates(struct rig *r, enum disk_point point)
{
    if (point == POINT_SHRINKING)
        g_assert_cmpint(node_io_open(disk_node(r->disk), true, false, NULL, r->visitor, NULL), ==,
                        0);
}

static void test_client_comes_while_shrinking(void)
{
    struct rig *r = named_rig("vda");
    struct node_io *late = NULL;
    GError *error = NULL;

    add(r, "b", 4096, true);
    rig_fill(r, 0, 4096, 'a');
    node_io_close(r->io);
    r->visit = come_at_closed_gates;
    r->visitor = &late;
    g_assert_cmpint(disk_resize(r->disk, 64 * KIB, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "disk vda: cannot shrink while a client is connected");
    g_error_free(error);
    r->visit = NULL;
    g_assert_cmpuint(node_io_info(late)->size, ==, 1 * MIB);
    g_assert_cmpuint(disk_size(r->disk), ==, 1 * MIB);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_RESIZE), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    r->io = late;
    rig_fill(r, 1 * MIB - 4096, 4096, 'b');
    g_assert_cmpuint(rig_count(r, "b"), ==, 8192);
    rig_free(r);
}

/* If the image has grown and a bitmap cannot, the image shrinks again. */
static uint64_t image_size;

static int note_resize(struct backend_handle *h, uint64_t size, GError **err)
{
    image_size = size;
    return 0;
}

static void test_growth_is_taken_back(void)
{
    struct rig *r = named_rig("vda");
    const struct backend_ops *real = r->backend->ops;
    struct backend_ops ops = *real;
    g_autoptr(GError) error = NULL;

    add(r, "b", 512, true);
    rig_fill(r, 0, 512, 'a');
    ops.resize = note_resize;
    r->backend->ops = &ops;
    g_assert_cmpint(disk_resize(r->disk, UINT64_C(1) << 62, &error), ==, -1);
    g_assert_true(g_str_has_prefix(error->message, "disk vda: bitmap b: "));
    g_assert_cmpuint(image_size, ==, 1 * MIB);
    g_assert_cmpuint(disk_size(r->disk), ==, 1 * MIB);
    g_assert_cmpuint(rig_count(r, "b"), ==, 512);
    r->backend->ops = real;
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instant-gates/pause-of-one-drain", test_pause_of_one_drain);
    g_test_add_func("/instant-gates/open-after-timeout", test_gates_open_after_timeout);
    g_test_add_func("/instant-gates/many-merges-close-once", test_many_merges_close_once);
    g_test_add_func("/instant-gates/clear-and-merge", test_clear_and_merge);
    g_test_add_func("/instant-gates/merge-chain", test_merge_chain);
    g_test_add_func("/instant-gates/merge-from-another-disk", test_merge_from_another_disk);
    g_test_add_func("/instant-gates/merge-waits-for-writes", test_merge_waits_for_writes);
    g_test_add_func("/instant-gates/merge-that-fails", test_merge_that_fails);
    g_test_add_func("/instant-gates/shadows-leave", test_shadows_leave);
    g_test_add_func("/instant-gates/client-comes-while-shrinking",
                    test_client_comes_while_shrinking);
    g_test_add_func("/instant-gates/growth-is-taken-back", test_growth_is_taken_back);
    return g_test_run();
}
