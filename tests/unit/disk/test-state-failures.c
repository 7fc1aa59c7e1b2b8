/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the flip and its end: what writes go into, what is seen, and what is left when the commit
 * fails. */
#include "server/disk/stage.h"
#include "tests/rigs/fake-store-bitmaps.h"
#include "tests/rigs/instant-rig.h"

#include <errno.h>

#define BLOCK 4096

/* Change each of them, and make a view and a new bitmap. */
static struct instant *stage_much(struct fake_store *s)
{
    const struct view_options options = {0};
    struct disk *d = s->rig->disk;
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_clear(i, d, "old", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, d, "idle", true, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_add(i, d, "new", BLOCK, true, false, NULL), ==, 0);
    g_assert_cmpint(instant_view_create(i, d, "v", &options, NULL, NULL), ==, 0);
    return i;
}

static bool is_busy(struct fake_store *s, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    struct dirty_bitmap_info info;

    dirty_bitmap_info(db, &info);
    dirty_bitmap_unref(db);
    return info.busy;
}

/* Called while it commits. All is seen as it was, but that what changes cannot be taken. Block 1 is
 * written. */
static void look_and_write(struct fake_store *s, void *opaque)
{
    g_autoptr(GPtrArray) bitmaps = disk_bitmaps(s->rig->disk);
    g_autoptr(GPtrArray) views = disk_views(s->rig->disk);

    g_assert_cmpuint(bitmaps->len, ==, 2);
    g_assert_cmpuint(views->len, ==, GPOINTER_TO_UINT(opaque));
    g_assert_true(is_busy(s, "old"));
    g_assert_true(is_busy(s, "idle"));
    rig_fill(s->rig, BLOCK, BLOCK, 'b');
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, 2 * BLOCK);
    g_assert_cmpuint(rig_count(s->rig, "idle"), ==, BLOCK);
}

static void assert_works(struct fake_store *s, unsigned n_tracked)
{
    g_assert_false(disk_in_instant(s->rig->disk));
    g_assert_false(is_busy(s, "old"));
    g_assert_false(is_busy(s, "idle"));
    g_assert_cmpuint(s->rig->disk->tracker->n, ==, n_tracked);
    g_assert_cmpuint(s->rig->disk->retired_trackers->len, ==, 0);
}

static void test_committed(void)
{
    struct fake_store *s = stored_two();
    g_autoptr(GPtrArray) views = NULL;

    s->committing = look_and_write;
    commit_instant(stage_much(s));
    assert_works(s, 3);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, BLOCK);
    g_assert_cmpuint(rig_count(s->rig, "idle"), ==, 2 * BLOCK);
    g_assert_cmpuint(rig_count(s->rig, "new"), ==, BLOCK);
    views = disk_views(s->rig->disk);
    g_assert_cmpuint(views->len, ==, 1);
    assert_view(views->pdata[0], 0, BLOCK, 'a');
    assert_view(views->pdata[0], BLOCK, BLOCK, 0); /* it keeps from the flip on */
    g_assert_cmpuint(s->bits, ==, 2);
    fake_store_free(s);
}

static void test_commit_fails(void)
{
    struct fake_store *s = stored_two();

    s->committing = look_and_write;
    s->fails = FAIL_COMMIT;
    assert_commit_fails(stage_much(s), "catalogue broken");
    assert_works(s, 1);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, 2 * BLOCK);
    g_assert_cmpuint(rig_count(s->rig, "idle"), ==, BLOCK);
    g_assert_null(disk_find_bitmap(s->rig->disk, "new"));
    g_assert_cmpuint(s->bits, ==, 2);
    g_assert_null(s->rig->disk->newest);
    g_assert_cmpuint(atomic_load(&s->rig->broken_events), ==, 0);
    g_assert_cmpuint(scratch_pool_used(s->rig->pool), ==, 0);

    /* It can be done again. */
    s->fails = 0;
    s->committing = NULL;
    commit_instant(stage_much(s));
    assert_works(s, 3);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, 0);
    fake_store_free(s);
}

/* What the view that is given up has kept, an older one needs. */
static void test_older_view_inherits(void)
{
    struct fake_store *s = stored_two();
    struct view *older = rig_view(s->rig, "older", CBW_BREAK_SNAPSHOT, 0);

    s->committing = look_and_write;
    s->opaque = GUINT_TO_POINTER(1);
    s->fails = FAIL_COMMIT;
    assert_commit_fails(stage_much(s), "catalogue broken");
    g_assert_true(s->rig->disk->newest == older);
    rig_fill(s->rig, 0, BLOCK, 'c');
    assert_view(older, 0, BLOCK, 'a');
    assert_view(older, BLOCK, BLOCK, 0);
    s->fails = 0;
    s->committing = NULL;
    rig_delete(s->rig, older);
    g_assert_cmpuint(scratch_pool_used(s->rig->pool), ==, 0);
    fake_store_free(s);
}

/* A write hangs, so that the gate cannot be drained again: the view stays in the chain, and leaves it
 * with the next instant. */
static void hang_writer(struct fake_store *s, void *opaque)
{
    GThread **writer = opaque;

    s->rig->disk->drain_usec = 0;
    park_arm(s->rig, POINT_WRITE_MARKED, 8 * BLOCK);
    *writer = rig_fill_thread(s->rig, 8 * BLOCK, BLOCK, 'h');
    park_wait(s->rig);
}

static void test_view_strays(void)
{
    struct fake_store *s = stored_two();
    struct disk *d = s->rig->disk;
    GThread *writer;

    s->committing = hang_writer;
    s->opaque = &writer;
    s->fails = FAIL_COMMIT;
    assert_commit_fails(stage_much(s), "catalogue broken");
    g_assert_cmpuint(d->strays->len, ==, 1);
    g_assert_cmpuint(d->views->len, ==, 0);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, 2 * BLOCK);
    rig_fill(s->rig, 0, BLOCK, 'x'); /* nothing is kept into it */
    park_release(s->rig);
    g_thread_join(writer);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, 2 * BLOCK);
    d->drain_usec = DRAIN_USEC;
    s->fails = 0;
    s->committing = NULL;
    commit_instant(stage_much(s));
    g_assert_cmpuint(d->strays->len, ==, 0);
    rig_fill(s->rig, BLOCK, BLOCK, 'y');
    assert_view(d->views->pdata[0], 0, BLOCK, 'x');
    assert_view(d->views->pdata[0], BLOCK, BLOCK, 0);
    fake_store_free(s);
}

/* The view is gone whatever the store says, because its blocks are. */
static void test_deleted_view(void)
{
    struct fake_store *s = stored_two();
    struct view *v = rig_view(s->rig, "v", CBW_BREAK_SNAPSHOT, 0);
    struct instant *i = instant_new();

    rig_fill(s->rig, 0, BLOCK, 'b');
    s->fails = FAIL_COMMIT;
    g_assert_cmpint(instant_view_delete(i, v, NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, s->rig->disk, "old", NULL), ==, 0);
    assert_commit_fails(i, "catalogue broken");
    g_assert_cmpuint(s->rig->disk->views->len, ==, 0);
    g_assert_null(s->rig->disk->newest);
    g_assert_cmpuint(scratch_pool_used(s->rig->pool), ==, 0);
    g_assert_cmpuint(atomic_load(&s->rig->broken_events), ==, 0);
    fake_store_free(s);
}

/* ---- threads ---- */

/* What may wait is done elsewhere, the rest on the control thread; the fake store checks it. */
static void test_threads(void)
{
    struct fake_store *s = stored_two();
    struct run *r = run_new();

    s->threads = true;
    s->committing = look_and_write;
    instant_abort(r->instant);
    r->instant = stage_much(s);
    g_string_truncate(r->calls, 0);
    run_start(r);
    while (r->state == INSTANT_WAITS)
        run_go_on(r);
    g_assert_cmpint(r->state, ==, INSTANT_DONE);
    g_string_assign(r->calls, "ce");
    assert_run_done(r);
    assert_works(s, 3);
    fake_store_free(s);
}

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned come, all;
};

static void meet(struct fake_store *s, void *opaque)
{
    struct meeting *m = opaque;

    pthread_mutex_lock(&m->lock);
    m->come++;
    pthread_cond_broadcast(&m->changed);
    while (m->come < m->all)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

/* Instants over different disks are between flip and end at the same time. */
static void test_several_at_once(void)
{
    struct meeting m = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .all = 2};
    struct fake_store *s = fake_store_new();
    struct rig *other = named_rig("vdb");
    struct run *a = run_new(), *b = run_new();

    fake_store_add_disk(s, other);
    s->committing = meet;
    s->opaque = &m;
    s->threads = true;
    g_assert_cmpint(instant_bitmap_add(a->instant, s->rig->disk, "a", BLOCK, true, true, NULL), ==,
                    0);
    g_assert_cmpint(instant_bitmap_add(b->instant, other->disk, "b", BLOCK, true, true, NULL), ==,
                    0);
    run_start(a);
    while (!a->instant->flipped)
        run_go_on(a);
    assert_run_waits(a, "disk vda: what it changes is being made durable");
    run_start(b);
    while (b->state == INSTANT_WAITS)
        run_go_on(b);
    assert_run_done(b);
    assert_run_done(a);
    g_assert_cmpuint(s->transactions, ==, 0);
    rig_fill(other, 0, BLOCK, 'x');
    g_assert_cmpuint(rig_count(other, "b"), ==, BLOCK);
    rig_free(other);
    fake_store_free(s);
}

/* One that was flipped goes on, though it is cancelled. */
static void test_cancelled_after_the_flip(void)
{
    struct meeting m = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .all = 2};
    struct fake_store *s = fake_store_new();
    struct run *r = run_new();

    s->committing = meet;
    s->opaque = &m;
    g_assert_cmpint(instant_bitmap_add(r->instant, s->rig->disk, "a", BLOCK, true, true, NULL), ==,
                    0);
    run_start(r);
    while (!r->instant->flipped)
        run_go_on(r);
    instant_cancel(r->instant);
    run_step(r);
    assert_run_waits(r, "disk vda: what it changes is being made durable");
    meet(s, &m);
    assert_run_done(r);
    g_assert_cmpuint(rig_count(s->rig, "a"), ==, 0);
    fake_store_free(s);
}

/* ---- resizes ---- */

static void assert_size(struct fake_store *s, uint64_t size)
{
    g_assert_cmpuint(disk_size(s->rig->disk), ==, size);
    g_assert_cmpuint(fake_backend_size(s->rig->backend), ==, size);
    g_assert_cmpuint(s->transactions, ==, 0);
}

/* A disk of 1 MiB without clients, with a bitmap. */
static struct fake_store *store_to_resize(void)
{
    struct fake_store *s = stored_two();

    node_io_close(s->rig->io);
    return s;
}

static void end_resize(struct fake_store *s)
{
    g_assert_cmpint(node_io_open(disk_node(s->rig->disk), true, false, NULL, &s->rig->io, NULL), ==,
                    0);
    fake_store_free(s);
}

struct resize_failure {
    const char *name;
    enum fake_store_failure fails;
    bool image, cancelled;
};

static const struct resize_failure resize_failures[] = {
    {"begin", FAIL_RESIZE_BEGIN, false, false}, {"bits", FAIL_BITS, false, true},
    {"attach", FAIL_ATTACH, false, true},       {"prepare", FAIL_PREPARE, false, true},
    {"commit", FAIL_COMMIT, false, true},       {"image", 0, true, true},
};

static void resize_fails(const struct resize_failure *f, uint64_t size)
{
    struct fake_failure refuse = {.call = FAKE_RESIZE, .error = -EIO};
    struct fake_store *s = store_to_resize();

    s->fails = f->fails;
    if (f->image)
        fake_backend_fail(s->rig->backend, &refuse);
    g_assert_cmpint(disk_resize(s->rig->disk, size, NULL), ==, -1);
    g_assert_true(g_str_has_suffix(s->calls->str, "cancel; ") == f->cancelled);
    assert_size(s, 1 * MIB);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, BLOCK);
    g_assert_cmpuint(s->bits, ==, 2);
    s->fails = 0;
    refuse.error = 0;
    g_assert_cmpint(disk_resize(s->rig->disk, size, NULL), ==, 0);
    assert_size(s, size);
    assert_works(s, 1);
    end_resize(s);
}

static void test_growth_fails(gconstpointer failure)
{
    resize_fails(failure, 2 * MIB);
}

static void test_shrinking_fails(gconstpointer failure)
{
    resize_fails(failure, MIB / 2);
}

/* The size is told when it is durable. */
static void assert_old_size(struct fake_store *s, void *opaque)
{
    g_assert_cmpuint(disk_size(s->rig->disk), ==, 1 * MIB);
    g_assert_cmpuint(fake_backend_size(s->rig->backend), ==, 2 * MIB);
}

static void test_growth(void)
{
    struct fake_store *s = store_to_resize();

    s->committing = assert_old_size;
    g_assert_cmpint(disk_resize(s->rig->disk, 2 * MIB, NULL), ==, 0);
    assert_size(s, 2 * MIB);
    g_assert_cmpuint(rig_count(s->rig, "old"), ==, BLOCK + 1 * MIB);
    g_assert_cmpuint(rig_count(s->rig, "idle"), ==, BLOCK);
    end_resize(s);
}

/* Which of the image's calls was the last one. Flushes may fail. */
struct last_call {
    enum fake_call call;
    int error; /* of flushes */
};

static int note_call(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct last_call *last = opaque;

    last->call = call;
    return call == FAKE_FLUSH ? last->error : 0;
}

static void assert_flushed(struct fake_store *s, void *opaque)
{
    const struct last_call *last = opaque;

    g_assert_cmpint(last->call, ==, FAKE_FLUSH);
}

/* After a power loss the image has the size that was committed. */
static void test_size_is_durable_first(void)
{
    static const uint64_t sizes[] = {2 * MIB, MIB / 2};

    for (unsigned k = 0; k < G_N_ELEMENTS(sizes); k++) {
        struct fake_store *s = store_to_resize();
        struct last_call last = {0};

        fake_backend_set_hook(s->rig->backend, note_call, &last);
        s->committing = assert_flushed;
        s->opaque = &last;
        g_assert_cmpint(disk_resize(s->rig->disk, sizes[k], NULL), ==, 0);
        assert_size(s, sizes[k]);
        fake_backend_set_hook(s->rig->backend, NULL, NULL);
        end_resize(s);
    }
}

/* Where the old size is not durable again, the store goes on to expect either. */
static void test_growth_is_not_flushed(void)
{
    struct fake_store *s = store_to_resize();
    struct last_call last = {.error = -EIO};

    fake_backend_set_hook(s->rig->backend, note_call, &last);
    g_assert_cmpint(disk_resize(s->rig->disk, 2 * MIB, NULL), ==, -1);
    g_assert_null(strstr(s->calls->str, "commit; "));
    g_assert_false(g_str_has_suffix(s->calls->str, "cancel; "));
    assert_size(s, 1 * MIB);
    fake_backend_set_hook(s->rig->backend, NULL, NULL);
    end_resize(s);
}

/* The image cannot be given its old size again: the store goes on to expect either. */
static void test_growth_stays(void)
{
    struct fake_store *s = stored_two();
    GThread *writer;

    s->fails = FAIL_COMMIT;
    s->committing = hang_writer;
    s->opaque = &writer;
    g_assert_cmpint(disk_resize(s->rig->disk, 2 * MIB, NULL), ==, -1);
    g_assert_false(g_str_has_suffix(s->calls->str, "cancel; "));
    park_release(s->rig);
    g_thread_join(writer);
    g_assert_cmpuint(disk_size(s->rig->disk), ==, 1 * MIB);
    fake_store_free(s);
}

/* What was cut off does not come back: the disk has its new size, and the bitmaps do not survive. */
static void test_shrunk_and_not_committed(void)
{
    struct fake_store *s = store_to_resize();
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, "old");
    g_autofree char *reason = NULL;

    s->fails = FAIL_COMMIT;
    g_assert_cmpint(disk_resize(s->rig->disk, MIB / 2, NULL), ==, 0);
    g_assert_true(
        g_str_has_suffix(s->calls->str, "commit; broken (catalogue broken); end without; "));
    assert_size(s, MIB / 2);
    reason = dirty_bitmap_reason(db);
    g_assert_cmpstr(reason, ==, "catalogue broken");
    g_assert_cmpuint(atomic_load(&s->rig->inconsistent_events), ==, 2);
    dirty_bitmap_unref(db);
    end_resize(s);
}

static void add_resizes(void)
{
    g_test_add_func("/state-failures/growth/durable-first", test_size_is_durable_first);
    g_test_add_func("/state-failures/growth/not-flushed", test_growth_is_not_flushed);
    for (unsigned k = 0; k < G_N_ELEMENTS(resize_failures); k++) {
        const struct resize_failure *f = &resize_failures[k];
        g_autofree char *grow = g_strdup_printf("/state-failures/growth/%s", f->name);
        g_autofree char *shrink = g_strdup_printf("/state-failures/shrinking/%s", f->name);

        g_test_add_data_func(grow, f, test_growth_fails);
        if (f->fails != FAIL_COMMIT)
            g_test_add_data_func(shrink, f, test_shrinking_fails);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state-failures/committed", test_committed);
    g_test_add_func("/state-failures/commit", test_commit_fails);
    g_test_add_func("/state-failures/older-view", test_older_view_inherits);
    g_test_add_func("/state-failures/stray", test_view_strays);
    g_test_add_func("/state-failures/deleted-view", test_deleted_view);
    g_test_add_func("/state-failures/threads", test_threads);
    g_test_add_func("/state-failures/several-at-once", test_several_at_once);
    g_test_add_func("/state-failures/cancelled", test_cancelled_after_the_flip);
    g_test_add_func("/state-failures/growth", test_growth);
    g_test_add_func("/state-failures/growth-stays", test_growth_stays);
    g_test_add_func("/state-failures/shrunk", test_shrunk_and_not_committed);
    add_resizes();
    return g_test_run();
}
