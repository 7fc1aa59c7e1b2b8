/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants that are run step by step: the thread that runs them never waits, hears when there is
 * something to do, and can do other things meanwhile.
 */
#include "tests/rigs/disk-harness.h"

#include <string.h>

#define LIMIT (60 * G_USEC_PER_SEC)

/* An instant that is run, and what was heard of it. */
struct run {
    struct instant *instant;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned wakes, heard; /* how often wake was called; how many of these were waited for */
    enum instant_state state;
    GError *error;
    GString *calls; /* a letter for each function of its users that was called */
};

static void wake(void *opaque)
{
    struct run *r = opaque;

    pthread_mutex_lock(&r->lock);
    r->wakes++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void note_commit(void *opaque)
{
    g_string_append_c(((struct run *)opaque)->calls, 'c');
}

static void note_abort(void *opaque)
{
    g_string_append_c(((struct run *)opaque)->calls, 'a');
}

static void note_end(void *opaque)
{
    g_string_append_c(((struct run *)opaque)->calls, 'e');
}

static struct run *run_new(void)
{
    struct run *r = g_new0(struct run, 1);

    r->instant = instant_new();
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->calls = g_string_new(NULL);
    instant_on_end(r->instant, note_end, r);
    instant_on_commit(r->instant, note_commit, r);
    instant_on_abort(r->instant, note_abort, r);
    return r;
}

static void step(struct run *r)
{
    g_assert_cmpint(r->state, ==, INSTANT_WAITS);
    r->state = instant_step(r->instant, &r->error);
}

static void start(struct run *r)
{
    instant_start(r->instant, wake, r);
    step(r);
}

static unsigned wakes(struct run *r)
{
    unsigned n;

    pthread_mutex_lock(&r->lock);
    n = r->wakes;
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* Wait for the next wake, and take a step. */
static void go_on(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->wakes == r->heard)
        pthread_cond_wait(&r->changed, &r->lock);
    r->heard++;
    pthread_mutex_unlock(&r->lock);
    step(r);
}

static void assert_waits(struct run *r, const char *what)
{
    g_autofree char *text = NULL;

    g_assert_cmpint(r->state, ==, INSTANT_WAITS);
    text = instant_waits_for(r->instant);
    g_assert_cmpstr(text, ==, what);
    g_assert_cmpstr(r->calls->str, ==, "");
}

static void run_free(struct run *r)
{
    g_clear_error(&r->error);
    g_string_free(r->calls, TRUE);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    g_free(r);
}

static void assert_done(struct run *r)
{
    while (r->state == INSTANT_WAITS)
        go_on(r);
    g_assert_no_error(r->error);
    g_assert_cmpint(r->state, ==, INSTANT_DONE);
    g_assert_cmpstr(r->calls->str, ==, "ce");
    run_free(r);
}

static void assert_failed(struct run *r, const char *why)
{
    while (r->state == INSTANT_WAITS)
        go_on(r);
    g_assert_cmpint(r->state, ==, INSTANT_FAILED);
    g_assert_cmpstr(r->error->message, ==, why);
    g_assert_cmpstr(r->calls->str, ==, "ae");
    run_free(r);
}

/* ---- the disks ---- */

static struct rig *named_rig(const char *name)
{
    struct rig *r = rig_new(1 * MIB, 0);

    g_free(r->disk->node.name);
    r->disk->node.name = g_strdup(name);
    r->disk->drain_usec = LIMIT;
    return r;
}

static void add(struct run *r, struct rig *rig, const char *name)
{
    g_assert_cmpint(instant_bitmap_add(r->instant, rig->disk, name, 4096, true, NULL), ==, 0);
}

/* It works on this disk, at once. */
static void assert_works(struct rig *rig)
{
    struct run *r = run_new();

    add(r, rig, "works");
    start(r);
    assert_done(r);
    r = run_new();
    g_assert_cmpint(instant_bitmap_remove(r->instant, rig->disk, "works", NULL), ==, 0);
    start(r);
    assert_done(r);
}

static void assert_refused(struct rig *rig)
{
    struct instant *i = instant_new();
    GError *error = NULL;

    g_assert_true(disk_in_instant(rig->disk));
    g_assert_cmpint(instant_bitmap_add(i, rig->disk, "refused", 4096, true, &error), ==, -1);
    g_assert_true(g_str_has_suffix(error->message, "size is under way"));
    g_clear_error(&error);
    instant_abort(i);
    i = instant_new();
    g_assert_cmpint(instant_resize(i, rig->disk, 2 * MIB, &error), ==, -1);
    g_assert_true(g_str_has_suffix(error->message, "size is under way"));
    g_clear_error(&error);
    instant_abort(i);
    g_assert_true(disk_in_instant(rig->disk));
}

static GThread *park_writer(struct rig *rig)
{
    GThread *writer;

    park_arm(rig, POINT_WRITE_MARKED, 0);
    writer = rig_fill_thread(rig, 0, 4096, 'a');
    park_wait(rig);
    return writer;
}

static void let_go(struct rig *rig, GThread *writer)
{
    park_release(rig);
    g_thread_join(writer);
}

/* ---- draining ---- */

static void at_flip(void *opaque)
{
    struct rig *rig = opaque;

    g_assert_true(atomic_load(&rig->disk->gate.closed));
    rig->visitor = rig; /* it was called */
}

/* Nobody waits: another disk's instants go on meanwhile, and the last writer who leaves says so. */
static void test_waits_for_writes(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b"), *other = named_rig("other");
    GThread *in_a = park_writer(a), *in_b = park_writer(b);
    struct run *r = run_new();
    gint64 now = g_get_monotonic_time();

    add(r, a, "x");
    add(r, b, "x");
    g_assert_cmpint(instant_at_flip(r->instant, b->disk, at_flip, b, NULL), ==, 0);
    start(r);
    assert_waits(r, "disk a: writes under way");
    g_assert_cmpint(instant_deadline(r->instant), >=, now + LIMIT);
    g_assert_cmpint(instant_deadline(r->instant), <, G_MAXINT64);
    assert_works(other);
    assert_refused(a);
    let_go(a, in_a);
    g_assert_cmpuint(wakes(r), ==, 0);
    step(r); /* nobody has asked for it, and it does no harm */
    assert_waits(r, "disk b: writes under way");
    g_assert_null(b->visitor);
    let_go(b, in_b);
    go_on(r);
    g_assert_true(b->visitor == b);
    g_assert_cmpuint(wakes(r), ==, 1);
    assert_done(r);
    assert_works(a);
    rig_free(a);
    rig_free(b);
    rig_free(other);
}

static void assert_untouched(struct rig *rig)
{
    g_autoptr(GPtrArray) bitmaps = disk_bitmaps(rig->disk);

    g_assert_false(atomic_load(&rig->disk->gate.closed));
    g_assert_cmpuint(bitmaps->len, ==, 0);
    rig_fill(rig, 8192, 4096, 'y');
}

/* At its deadline it opens all gates; nobody is told later that writes have ended. */
static void test_out_of_time(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b");
    GThread *in_b = park_writer(b);
    struct run *r = run_new();

    b->disk->drain_usec = 0;
    add(r, a, "x");
    add(r, b, "x");
    instant_start(r->instant, wake, r);
    step(r);
    g_assert_cmpuint(wakes(r), ==, 0);
    assert_failed(r, "disk b: writes under way did not end within 0 s");
    assert_untouched(a);
    assert_untouched(b);
    b->disk->drain_usec = LIMIT;
    r = run_new();
    add(r, b, "x");
    start(r);
    assert_waits(r, "disk b: writes under way");
    let_go(b, in_b);
    go_on(r);
    g_assert_cmpuint(wakes(r), ==, 1);
    assert_done(r);
    rig_free(a);
    rig_free(b);
}

static void test_cancel_while_draining(void)
{
    struct rig *a = named_rig("a"), *b = named_rig("b");
    GThread *in_b = park_writer(b);
    struct run *r = run_new();

    add(r, a, "x");
    add(r, b, "x");
    start(r);
    instant_cancel(r->instant);
    step(r);
    assert_failed(r, "disk b: given up while writes were under way");
    assert_untouched(a);
    assert_untouched(b);
    let_go(b, in_b);
    assert_works(b);
    rig_free(a);
    rig_free(b);
}

/* An export takes a bitmap while it is about to be removed. */
static void test_busy_meanwhile(void)
{
    struct rig *a = named_rig("a");
    struct run *r = run_new();
    struct dirty_bitmap *x;
    GThread *in_a;

    add(r, a, "x");
    start(r);
    assert_done(r);
    for (int changed = 0; changed < 2; changed++) {
        in_a = park_writer(a);
        r = run_new();
        if (changed)
            g_assert_cmpint(instant_bitmap_record(r->instant, a->disk, "x", false, NULL), ==, 0);
        else
            g_assert_cmpint(instant_bitmap_remove(r->instant, a->disk, "x", NULL), ==, 0);
        start(r);
        x = disk_find_bitmap(a->disk, "x");
        dirty_bitmap_busy_begin(x);
        let_go(a, in_a);
        go_on(r);
        assert_failed(r, "Bitmap 'x' is currently in use by another operation and cannot be used");
        dirty_bitmap_busy_end(x);
        dirty_bitmap_unref(x);
    }
    rig_fill(a, 8192, 4096, 'y');
    g_assert_cmpuint(rig_count(a, "x"), ==, 8192);
    rig_free(a);
}

/* ---- long work ---- */

static struct run *run_merge(struct rig *a)
{
    struct run *r = run_new();

    add(r, a, "from");
    add(r, a, "to");
    start(r);
    assert_done(r);
    rig_fill(a, 0, 4096, 'a');
    r = run_new();
    g_assert_cmpint(instant_bitmap_clear(r->instant, a->disk, "to", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(r->instant, a->disk, "to", a->disk, "from", NULL), ==, 0);
    park_arm(a, POINT_SHADOWED, 0);
    start(r);
    park_wait(a);
    return r;
}

/* Bits are copied by a thread, the gates open. */
static void test_copies_elsewhere(void)
{
    struct rig *a = named_rig("a"), *other = named_rig("other");
    struct run *r = run_merge(a);

    assert_waits(r, "disk a: bits are being copied");
    g_assert_cmpint(instant_deadline(r->instant), ==, G_MAXINT64);
    rig_fill(a, 8192, 4096, 'b');
    assert_works(other);
    assert_refused(a);
    park_release(a);
    assert_done(r);
    g_assert_cmpuint(rig_count(a, "to"), ==, 8192);
    g_assert_cmpuint(a->disk->tracker->n, ==, 2);
    rig_free(a);
    rig_free(other);
}

static void test_cancel_while_copying(void)
{
    struct rig *a = named_rig("a");
    struct run *r = run_merge(a);

    instant_cancel(r->instant);
    step(r);
    assert_waits(r, "disk a: bits are being copied");
    g_assert_cmpuint(a->disk->tracker->n, ==, 3);
    park_release(a);
    assert_failed(r, "given up before its instant");
    g_assert_cmpuint(a->disk->tracker->n, ==, 2);
    g_assert_cmpuint(rig_count(a, "to"), ==, 4096);
    rig_fill(a, 8192, 4096, 'b');
    g_assert_cmpuint(rig_count(a, "from"), ==, 8192);
    assert_works(a);
    rig_free(a);
}

static void count_visits(struct rig *r, enum disk_point point)
{
    if (point == POINT_BITS_COPYING || point == POINT_VIEW_TRIMMED)
        ++*(unsigned *)r->visitor;
}

/* A long copy ends soon when it is not wanted any more: nothing is copied after the piece that is
 * under way. */
static void test_cancel_a_long_copy(void)
{
    struct rig *a = rig_new(256 * MIB, 0);
    struct run *r = run_new();
    unsigned pieces = 0;

    a->visit = count_visits;
    a->visitor = &pieces;
    rig_bitmap(a, "from", 512);
    rig_bitmap(a, "to", 512);
    for (uint64_t at = 0; at < 256 * MIB; at += 16 * MIB)
        rig_fill(a, at, 4096, 'a');
    g_assert_cmpint(instant_bitmap_clear(r->instant, a->disk, "to", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_merge(r->instant, a->disk, "to", a->disk, "from", NULL), ==, 0);
    park_arm(a, POINT_BITS_COPYING, 0);
    start(r);
    park_wait(a);
    instant_cancel(r->instant);
    step(r);
    g_assert_cmpint(r->state, ==, INSTANT_WAITS);
    park_release(a);
    assert_failed(r, "given up before its instant");
    g_assert_cmpuint(pieces, ==, 1);
    g_assert_cmpuint(rig_count(a, "to"), ==, 16 * 4096);
    rig_free(a);
}

/* A deletion that hands much over ends as soon. The view is broken, older ones find the rest in it,
 * and it can be deleted again. */
static void test_cancel_a_long_hand_over(void)
{
    struct rig *a = rig_new(64 * MIB, 0);
    struct view *old, *new;
    struct run *r = run_new();
    struct view_info info;
    unsigned pieces = 0;

    a->visit = count_visits;
    a->visitor = &pieces;
    rig_fill(a, 0, 64 * MIB, 'a');
    old = rig_view(a, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(a, "new", CBW_BREAK_SNAPSHOT, 0);
    for (uint64_t at = 0; at < 64 * MIB; at += 16 * MIB)
        rig_fill(a, at, 4096, 'b');
    g_assert_cmpint(instant_view_delete(r->instant, new, NULL), ==, 0);
    park_arm(a, POINT_VIEW_TRIMMED, ANYWHERE);
    start(r);
    park_wait(a);
    instant_cancel(r->instant);
    step(r);
    g_assert_cmpint(r->state, ==, INSTANT_WAITS);
    park_release(a);
    assert_failed(r, "given up before its instant");
    g_assert_cmpuint(pieces, ==, 1);
    view_info(new, &info);
    g_assert_true(info.broken);
    g_assert_cmpuint(rig_kept(new), >, 0);
    assert_view(old, 0, 64 * MIB, 'a');
    rig_fill(a, 0, 64 * MIB, 'c');
    assert_view(old, 0, 64 * MIB, 'a');
    rig_delete(a, new);
    assert_view(old, 0, 64 * MIB, 'a');
    rig_free(a);
}

/* ---- resize ---- */

struct held_resize {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached, released;
    unsigned resizes;
};

static int hold_resize(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct held_resize *h = opaque;

    if (call != FAKE_RESIZE)
        return 0;
    pthread_mutex_lock(&h->lock);
    h->reached = true;
    pthread_cond_broadcast(&h->changed);
    while (!h->released)
        pthread_cond_wait(&h->changed, &h->lock);
    h->resizes++;
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static void wait_resize(struct held_resize *h)
{
    pthread_mutex_lock(&h->lock);
    while (!h->reached)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

static void release_resize(struct held_resize *h)
{
    pthread_mutex_lock(&h->lock);
    h->released = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

#define HELD_RESIZE                                                                                \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                     \
    }

/* A backend that hangs in its resize holds up nobody else. */
static void resize_held(bool shrink)
{
    struct rig *a = named_rig("a"), *other = named_rig("other");
    struct held_resize h = HELD_RESIZE;
    struct run *r = run_new();
    uint64_t size = shrink ? 512 * KIB : 2 * MIB;
    GError *error = NULL;

    add(r, a, "x");
    start(r);
    assert_done(r);
    fake_backend_set_hook(a->backend, hold_resize, &h);
    if (shrink)
        node_io_close(a->io);
    r = run_new();
    g_assert_cmpint(instant_resize(r->instant, a->disk, size, NULL), ==, 0);
    start(r);
    while (shrink && !atomic_load(&a->disk->gate.closed)) /* bits are made first */
        go_on(r);
    wait_resize(&h);
    assert_waits(r, "disk a: the image is being resized");
    g_assert_cmpint(instant_deadline(r->instant), ==, G_MAXINT64);
    assert_works(other);
    assert_refused(a);
    release_resize(&h);
    assert_done(r);
    g_assert_cmpuint(disk_size(a->disk), ==, size);
    g_assert_cmpuint(rig_count(a, "x"), ==, shrink ? 0 : 1 * MIB);
    if (shrink)
        g_assert_cmpint(node_io_open(disk_node(a->disk), true, false, NULL, &a->io, &error), ==, 0);
    assert_works(a);
    rig_free(a);
    rig_free(other);
}

static void test_resize_hangs(void)
{
    resize_held(false);
    resize_held(true);
}

/* An image that was asked to grow, and a command that is given up: the image is as it was. */
static void test_cancel_while_growing(void)
{
    struct rig *a = named_rig("a");
    struct held_resize h = HELD_RESIZE;
    struct run *r = run_new();

    fake_backend_set_hook(a->backend, hold_resize, &h);
    g_assert_cmpint(instant_resize(r->instant, a->disk, 2 * MIB, NULL), ==, 0);
    start(r);
    wait_resize(&h);
    instant_cancel(r->instant);
    step(r);
    assert_waits(r, "disk a: the image is being resized");
    release_resize(&h);
    assert_failed(r, "given up before its instant");
    g_assert_cmpuint(h.resizes, ==, 2);
    g_assert_cmpuint(disk_size(a->disk), ==, 1 * MIB);
    assert_works(a);
    rig_free(a);
}

/* While a transaction waits, its disks are not resized. */
static void test_resize_beside_transaction(void)
{
    struct rig *a = named_rig("a");
    GThread *in_a = park_writer(a);
    struct run *r = run_new();

    add(r, a, "x");
    start(r);
    assert_refused(a);
    let_go(a, in_a);
    assert_done(r);
    r = run_new();
    g_assert_cmpint(instant_resize(r->instant, a->disk, 2 * MIB, NULL), ==, 0);
    start(r);
    assert_done(r);
    g_assert_cmpuint(disk_size(a->disk), ==, 2 * MIB);
    rig_free(a);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instant-run/waits-for-writes", test_waits_for_writes);
    g_test_add_func("/instant-run/out-of-time", test_out_of_time);
    g_test_add_func("/instant-run/cancel-while-draining", test_cancel_while_draining);
    g_test_add_func("/instant-run/busy-meanwhile", test_busy_meanwhile);
    g_test_add_func("/instant-run/copies-elsewhere", test_copies_elsewhere);
    g_test_add_func("/instant-run/cancel-while-copying", test_cancel_while_copying);
    g_test_add_func("/instant-run/cancel-a-long-copy", test_cancel_a_long_copy);
    g_test_add_func("/instant-run/cancel-a-long-hand-over", test_cancel_a_long_hand_over);
    g_test_add_func("/instant-run/resize-hangs", test_resize_hangs);
    g_test_add_func("/instant-run/cancel-while-growing", test_cancel_while_growing);
    g_test_add_func("/instant-run/resize-beside-a-transaction", test_resize_beside_transaction);
    return g_test_run();
}
