/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/instant-rig.h"

void run_wake(void *opaque)
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

struct run *run_new(void)
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

void run_step(struct run *r)
{
    g_assert_cmpint(r->state, ==, INSTANT_WAITS);
    r->state = instant_step(r->instant, &r->error);
}

void run_start(struct run *r)
{
    instant_start(r->instant, run_wake, r);
    run_step(r);
}

unsigned run_wakes(struct run *r)
{
    unsigned n;

    pthread_mutex_lock(&r->lock);
    n = r->wakes;
    pthread_mutex_unlock(&r->lock);
    return n;
}

void run_go_on(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->wakes == r->heard)
        pthread_cond_wait(&r->changed, &r->lock);
    r->heard++;
    pthread_mutex_unlock(&r->lock);
    run_step(r);
}

void assert_run_waits(struct run *r, const char *what)
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

void assert_run_done(struct run *r)
{
    while (r->state == INSTANT_WAITS)
        run_go_on(r);
    g_assert_no_error(r->error);
    g_assert_cmpint(r->state, ==, INSTANT_DONE);
    g_assert_cmpstr(r->calls->str, ==, "ce");
    run_free(r);
}

void assert_run_failed(struct run *r, const char *why)
{
    while (r->state == INSTANT_WAITS)
        run_go_on(r);
    g_assert_cmpint(r->state, ==, INSTANT_FAILED);
    g_assert_cmpstr(r->error->message, ==, why);
    g_assert_cmpstr(r->calls->str, ==, "ae");
    run_free(r);
}

struct rig *named_rig(const char *name)
{
    struct rig *r = rig_new(1 * MIB, 0);

    g_free(r->disk->node.name);
    r->disk->node.name = g_strdup(name);
    r->disk->drain_usec = RUN_LIMIT;
    return r;
}

void run_add_bitmap(struct run *r, struct rig *rig, const char *name)
{
    g_assert_cmpint(instant_bitmap_add(r->instant, rig->disk, name, 4096, true, false, NULL), ==,
                    0);
}

void assert_disk_works(struct rig *rig)
{
    struct run *r = run_new();

    run_add_bitmap(r, rig, "works");
    run_start(r);
    assert_run_done(r);
    r = run_new();
    g_assert_cmpint(instant_bitmap_remove(r->instant, rig->disk, "works", NULL), ==, 0);
    run_start(r);
    assert_run_done(r);
}

void assert_disk_refuses(struct rig *rig)
{
    struct instant *i = instant_new();
    GError *error = NULL;

    g_assert_true(disk_in_instant(rig->disk));
    g_assert_cmpint(instant_bitmap_add(i, rig->disk, "refused", 4096, true, false, &error), ==, -1);
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

GThread *rig_park_writer(struct rig *rig)
{
    GThread *writer;

    park_arm(rig, POINT_WRITE_MARKED, 0);
    writer = rig_fill_thread(rig, 0, 4096, 'a');
    park_wait(rig);
    return writer;
}

void rig_let_go(struct rig *rig, GThread *writer)
{
    park_release(rig);
    g_thread_join(writer);
}
