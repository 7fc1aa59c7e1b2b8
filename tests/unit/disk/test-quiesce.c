/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests that are quiesced around an instant: when, by which thread, and that they are always thawed. */
#include "common/util/error.h"
#include "tests/rigs/fake-store.h"
#include "tests/rigs/instant-rig.h"

#include <string.h>

/* A pair of functions, and what they note. */
struct guest {
    const char *name;
    struct rig *rig;
    GString *calls; /* shared; one thread at a time writes */
    GThread *control;
    bool fails;
};

static int freeze(void *opaque, GError **err)
{
    struct guest *g = opaque;

    g_assert_true(!g->control || g_thread_self() != g->control);
    g_assert_false(atomic_load(&g->rig->disk->gate.closed));
    g_string_append_printf(g->calls, "freeze %s; ", g->name);
    return g->fails ? fail(err, "guest %s does not stand still", g->name) : 0;
}

static void thaw(void *opaque)
{
    struct guest *g = opaque;

    g_assert_true(!g->control || g_thread_self() != g->control);
    g_assert_false(atomic_load(&g->rig->disk->gate.closed));
    g_string_append_printf(g->calls, "thaw %s; ", g->name);
}

static void note_point(struct rig *r, enum disk_point point)
{
    GString *calls = r->visitor;

    if (point == POINT_BITS_COPIED)
        g_string_append(calls, "copied; ");
    if (point == POINT_GATES_CLOSED)
        g_string_append(calls, "flip; ");
    if (point == POINT_FLIPPED)
        g_string_append(calls, "commit; ");
}

struct pair {
    struct fake_store *s;
    struct rig *rig;
    GString *calls;
    struct guest a, b;
};

static void pair_init(struct pair *p)
{
    p->s = fake_store_new();
    p->rig = p->s->rig;
    p->calls = g_string_new(NULL);
    p->a = (struct guest){.name = "a", .rig = p->rig, .calls = p->calls};
    p->b = (struct guest){.name = "b", .rig = p->rig, .calls = p->calls};
    p->rig->visitor = p->calls;
    p->rig->visit = note_point;
}

static void pair_free(struct pair *p)
{
    p->rig->visit = NULL;
    fake_store_free(p->s);
    g_string_free(p->calls, TRUE);
}

static void add_both(struct pair *p, struct instant *i)
{
    g_assert_cmpint(instant_bitmap_add(i, p->rig->disk, "x", 4096, true, true, NULL), ==, 0);
    instant_quiesce(i, freeze, thaw, &p->a);
    instant_quiesce(i, freeze, thaw, &p->b);
}

static void test_order(void)
{
    struct dirty_bitmap *frozen;
    struct pair p;
    struct instant *i;

    pair_init(&p);
    i = instant_new();
    add_both(&p, i);
    g_assert_cmpint(instant_freeze(i, p.rig->disk,
                                   &(struct freeze_options){.name = "f", .source = "x"}, &frozen,
                                   NULL),
                    ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    g_assert_cmpstr(p.calls->str, ==, "copied; freeze a; freeze b; flip; thaw b; thaw a; commit; ");
    dirty_bitmap_unref(frozen);
    pair_free(&p);
}

static void test_threads(void)
{
    struct run *r = run_new();
    struct pair p;

    pair_init(&p);
    p.rig->visit = NULL; /* the control thread comes to points, too */
    p.a.control = p.b.control = g_thread_self();
    add_both(&p, r->instant);
    run_start(r);
    assert_run_done(r);
    g_assert_cmpstr(p.calls->str, ==, "freeze a; freeze b; thaw b; thaw a; ");
    pair_free(&p);
}

static void check_fails(void (*arrange)(struct pair *p), const char *error, const char *calls)
{
    struct run *r = run_new();
    struct pair p;

    pair_init(&p);
    p.a.control = p.b.control = g_thread_self();
    arrange(&p);
    add_both(&p, r->instant);
    run_start(r);
    assert_run_failed(r, error);
    g_assert_cmpstr(p.calls->str, ==, calls);
    g_assert_null(disk_find_bitmap(p.rig->disk, "x"));
    p.s->fails = 0;
    pair_free(&p);
}

static void first_fails(struct pair *p)
{
    p->a.fails = true;
}

static void second_fails(struct pair *p)
{
    p->b.fails = true;
}

static void prepare_fails(struct pair *p)
{
    p->s->fails = FAIL_PREPARE;
}

static void commit_fails(struct pair *p)
{
    p->s->fails = FAIL_COMMIT;
}

/* Who was asked is thawed, also where it has failed. */
static void test_fails(void)
{
    check_fails(first_fails, "guest a does not stand still", "freeze a; thaw a; ");
    check_fails(second_fails, "guest b does not stand still",
                "freeze a; freeze b; thaw b; thaw a; ");
    check_fails(prepare_fails, "disk full", "");
    check_fails(commit_fails, "catalogue broken",
                "freeze a; freeze b; flip; thaw b; thaw a; commit; ");
}

static void test_drain_times_out(void)
{
    struct run *r = run_new();
    struct pair p;
    GThread *writer;

    pair_init(&p);
    writer = rig_park_writer(p.rig);
    p.rig->disk->drain_usec = 0;
    add_both(&p, r->instant);
    run_start(r);
    assert_run_failed(r, "disk vda: writes under way did not end within 0 s");
    g_assert_cmpstr(p.calls->str, ==, "freeze a; freeze b; thaw b; thaw a; ");
    rig_let_go(p.rig, writer);
    pair_free(&p);
}

/* ---- while it stands still ---- */

struct slow {
    struct guest guest;
    struct park park;
    bool at_thaw;
};

static void stand(struct slow *s)
{
    struct park *p = &s->park;

    pthread_mutex_lock(&p->lock);
    p->reached = true;
    pthread_cond_broadcast(&p->changed);
    while (!p->released)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static int freeze_slowly(void *opaque, GError **err)
{
    struct slow *s = opaque;

    if (!s->at_thaw)
        stand(s);
    return freeze(&s->guest, err);
}

static void thaw_slowly(void *opaque)
{
    struct slow *s = opaque;

    if (s->at_thaw)
        stand(s);
    thaw(&s->guest);
}

static void wait_reached(struct slow *s)
{
    pthread_mutex_lock(&s->park.lock);
    while (!s->park.reached)
        pthread_cond_wait(&s->park.changed, &s->park.lock);
    pthread_mutex_unlock(&s->park.lock);
}

static void let_go(struct slow *s)
{
    pthread_mutex_lock(&s->park.lock);
    s->park.released = true;
    pthread_cond_broadcast(&s->park.changed);
    pthread_mutex_unlock(&s->park.lock);
}

static struct run *begin_slowly(struct slow *s, struct rig *rig)
{
    struct run *r = run_new();

    pthread_mutex_init(&s->park.lock, NULL);
    pthread_cond_init(&s->park.changed, NULL);
    s->guest = (struct guest){.name = "a", .rig = rig, .calls = g_string_new(NULL)};
    s->guest.control = g_thread_self();
    run_add_bitmap(r, rig, "x");
    instant_quiesce(r->instant, freeze_slowly, thaw_slowly, s);
    run_start(r);
    return r;
}

static void slow_end(struct slow *s, const char *calls)
{
    g_assert_cmpstr(s->guest.calls->str, ==, calls);
    g_string_free(s->guest.calls, TRUE);
    pthread_cond_destroy(&s->park.changed);
    pthread_mutex_destroy(&s->park.lock);
}

/* Guests write meanwhile: they flush what they have. */
static void test_waits(void)
{
    struct rig *rig = rig_new(1 * MIB, 0);
    struct slow s = {.at_thaw = false};
    struct run *r = begin_slowly(&s, rig);

    wait_reached(&s);
    assert_run_waits(r, "disk vda: guests are being quiesced");
    rig_fill(rig, 0, 4096, 'a');
    g_assert_null(disk_find_bitmap(rig->disk, "x"));
    let_go(&s);
    assert_run_done(r);
    slow_end(&s, "freeze a; thaw a; ");
    rig_free(rig);
}

static void test_thaw_waits(void)
{
    struct rig *rig = rig_new(1 * MIB, 0);
    struct slow s = {.at_thaw = true};
    struct run *r = begin_slowly(&s, rig);

    run_go_on(r);
    wait_reached(&s);
    assert_run_waits(r, "disk vda: guests are being thawed");
    rig_fill(rig, 0, 4096, 'a');
    g_assert_cmpuint(rig_count(rig, "x"), ==, 4096);
    let_go(&s);
    assert_run_done(r);
    slow_end(&s, "freeze a; thaw a; ");
    rig_free(rig);
}

static void test_cancelled(void)
{
    struct rig *rig = rig_new(1 * MIB, 0);
    struct slow s = {.at_thaw = false};
    struct run *r = begin_slowly(&s, rig);

    wait_reached(&s);
    instant_cancel(r->instant);
    let_go(&s);
    assert_run_failed(r, "given up before its instant");
    slow_end(&s, "freeze a; thaw a; ");
    rig_free(rig);
}

/* ---- a resize ---- */

static void check_resize(uint64_t size, bool fails)
{
    struct instant *i = instant_new();
    struct pair p;

    pair_init(&p);
    g_assert_cmpint(instant_bitmap_add(i, p.rig->disk, "x", 4096, true, true, NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    node_io_close(p.rig->io);
    g_string_truncate(p.calls, 0);
    i = instant_new();
    g_assert_cmpint(instant_resize(i, p.rig->disk, size, NULL), ==, 0);
    instant_quiesce(i, freeze, thaw, &p.a);
    p.a.fails = fails;
    g_assert_cmpint(instant_commit(i, NULL), ==, fails ? -1 : 0);
    g_assert_cmpstr(p.calls->str, ==,
                    fails ? "copied; freeze a; thaw a; "
                          : "copied; freeze a; flip; thaw a; commit; ");
    g_assert_cmpuint(fake_backend_size(p.rig->backend), ==, fails ? 1 * MIB : size);
    g_assert_cmpint(node_io_open(disk_node(p.rig->disk), true, false, NULL, &p.rig->io, NULL), ==,
                    0);
    pair_free(&p);
}

static void test_resize(void)
{
    check_resize(2 * MIB, false);
    check_resize(2 * MIB, true);
    check_resize(512 * KIB, false);
    check_resize(512 * KIB, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/quiesce/order", test_order);
    g_test_add_func("/quiesce/threads", test_threads);
    g_test_add_func("/quiesce/fails", test_fails);
    g_test_add_func("/quiesce/drain-times-out", test_drain_times_out);
    g_test_add_func("/quiesce/waits", test_waits);
    g_test_add_func("/quiesce/thaw-waits", test_thaw_waits);
    g_test_add_func("/quiesce/cancelled", test_cancelled);
    g_test_add_func("/quiesce/resize", test_resize);
    return g_test_run();
}
