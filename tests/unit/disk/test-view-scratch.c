/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The scratch that an instant has made for its views, by a thread that may hang: who waits, who gives
 * up, and what becomes of it. And the ends of views where another thread hangs.
 */
#include "server/disk/disk-scratch.h"
#include "server/disk/view-chain.h"
#include "tests/rigs/disk-harness.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An instant that makes a view; the test's thread runs it, and waits where it wants to. */
struct run {
    struct instant *instant;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned wakes, heard;
};

static void wake(void *opaque)
{
    struct run *r = opaque;

    pthread_mutex_lock(&r->lock);
    r->wakes++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void run_init(struct run *r)
{
    *r = (struct run){.instant = instant_new()};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
}

static void run_new(struct run *r, struct rig *rig, const char *name)
{
    static const struct view_options options;

    run_init(r);
    g_assert_cmpint(instant_view_create(r->instant, rig->disk, name, &options, NULL, NULL), ==, 0);
}

static void run_clear(struct run *r)
{
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
}

static void wait_wake(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->wakes == r->heard)
        pthread_cond_wait(&r->changed, &r->lock);
    r->heard++;
    pthread_mutex_unlock(&r->lock);
}

static void begin_to_wait(struct run *r)
{
    instant_start(r->instant, wake, r);
    g_assert_cmpint(instant_step(r->instant, NULL), ==, INSTANT_WAITS);
}

/* It has been started. */
static void assert_ends(struct run *r, const char *why)
{
    enum instant_state state;
    GError *error = NULL;

    while ((state = instant_step(r->instant, &error)) == INSTANT_WAITS)
        wait_wake(r);
    g_assert_cmpint(state, ==, why ? INSTANT_FAILED : INSTANT_DONE);
    g_assert_cmpstr(error ? error->message : NULL, ==, why);
    g_clear_error(&error);
    run_clear(r);
}

/* It has failed, without waiting. */
static void assert_fails(struct run *r, const char *why)
{
    GError *error = NULL;

    g_assert_cmpint(instant_step(r->instant, &error), ==, INSTANT_FAILED);
    g_assert_cmpstr(error->message, ==, why);
    g_error_free(error);
    run_clear(r);
}

/* An instant whose scratch is not made in time fails, and has changed nothing. The thread stays alone,
 * however many try again; guests go on. What it makes in the end is the next view's, or nobody's. */
static void test_hangs(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    g_autofree char *late = g_strdup_printf(
        "disk vda: scratch: a file in %s could not be made within 0 s", g_get_tmp_dir());
    g_autofree char *text = NULL;
    struct run one, two, three;
    GThread *maker;

    park_arm(r, POINT_SCRATCH_MAKING, 0);
    run_new(&one, r, "one");
    begin_to_wait(&one);
    park_wait(r);
    maker = r->disk->holding.maker;
    text = instant_waits_for(one.instant);
    g_assert_cmpstr(text, ==, "disk vda: its scratch file is being made");
    g_assert_cmpint(instant_deadline(one.instant), <=,
                    g_get_monotonic_time() + r->disk->scratch_usec);
    rig_fill(r, 0, 4096, 'a'); /* no gate is shut, and no lock of the disk's held */
    g_ptr_array_unref(disk_views(r->disk));
    r->disk->scratch_usec = 0;
    assert_fails(&one, late);
    run_new(&two, r, "two");
    instant_start(two.instant, wake, &two);
    assert_fails(&two, late);
    g_assert_true(r->disk->holding.maker == maker);
    g_assert_cmpuint(r->disk->views->len, ==, 0);

    r->disk->scratch_usec = SCRATCH_USEC;
    run_new(&three, r, "three");
    begin_to_wait(&three);
    park_release(r);
    assert_ends(&three, NULL);
    g_assert_true(r->disk->holding.maker == maker);
    rig_fill(r, 0, 4096, 'b');
    assert_view((struct view *)r->disk->views->pdata[0], 0, 4096, 'a');
    rig_free(r);
}

/* One that gives up at once, as at the server's end; what is made then is nobody's. */
static void test_given_up(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct run one;

    park_arm(r, POINT_SCRATCH_MAKING, 0);
    run_new(&one, r, "one");
    begin_to_wait(&one);
    park_wait(r);
    instant_cancel(one.instant);
    assert_fails(&one, "disk vda: given up while its scratch file was being made");
    g_assert_cmpuint(r->disk->holding.holders, ==, 0);
    park_release(r);
    g_assert_true(disk_scratch_end_making(&r->disk->holding));
    g_assert_null(r->disk->scratch);
    rig_free(r);
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs;
    unsigned closed;
} closing = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};

/* It stands in for the C library's, and hangs while the test says so. */
int close(int fd)
{
    pthread_mutex_lock(&closing.lock);
    while (closing.hangs)
        pthread_cond_wait(&closing.changed, &closing.lock);
    closing.closed++;
    pthread_cond_broadcast(&closing.changed);
    pthread_mutex_unlock(&closing.lock);
    return (int)syscall(SYS_close, fd);
}

/* The file that comes too late is closed, and that hangs: neither the next instant nor the disk's
 * end waits for it. */
static void test_close_hangs(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct run one, two;
    unsigned closed;

    park_arm(r, POINT_SCRATCH_MAKING, 0);
    run_new(&one, r, "one");
    begin_to_wait(&one);
    park_wait(r);
    instant_cancel(one.instant);
    assert_fails(&one, "disk vda: given up while its scratch file was being made");
    pthread_mutex_lock(&closing.lock);
    closing.hangs = true;
    closed = closing.closed;
    pthread_mutex_unlock(&closing.lock);
    park_release(r);
    g_assert_true(disk_scratch_end_making(&r->disk->holding));
    run_new(&two, r, "two");
    instant_start(two.instant, wake, &two);
    assert_ends(&two, NULL);
    pthread_mutex_lock(&closing.lock);
    closing.hangs = false;
    pthread_cond_broadcast(&closing.changed);
    while (closing.closed == closed)
        pthread_cond_wait(&closing.changed, &closing.lock);
    pthread_mutex_unlock(&closing.lock);
    rig_free(r);
}

/* A disk whose thread has not come back is not ended, nor does its end wait for ever. What guests
 * have written is flushed before. */
static void test_end_of_the_disk(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct run one;

    park_arm(r, POINT_SCRATCH_MAKING, 0);
    run_new(&one, r, "one");
    begin_to_wait(&one);
    park_wait(r);
    instant_cancel(one.instant);
    assert_fails(&one, "disk vda: given up while its scratch file was being made");
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_FLUSH), ==, 0);
    g_assert_false(disk_free(r->disk));
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_FLUSH), ==, 1);
    park_release(r);
    rig_free(r);
}

/* Why there is none is told by the instant, and there is one when there can be. */
static void test_cannot_be_made(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    g_autofree char *dir = g_dir_make_tmp("scratch-XXXXXX", NULL);
    g_autofree char *why = g_strdup_printf("disk vda: scratch: %s: No such file or directory", dir);
    struct run one;

    g_rmdir(dir);
    g_free(r->pool->dir);
    r->pool->dir = g_strdup(dir);
    for (int i = 0; i < 2; i++) {
        run_new(&one, r, "one");
        instant_start(one.instant, wake, &one);
        assert_ends(&one, why);
        g_assert_cmpuint(r->disk->holding.holders, ==, 0);
    }
    g_assert_cmpint(g_mkdir(dir, 0700), ==, 0);
    run_new(&one, r, "one");
    instant_start(one.instant, wake, &one);
    assert_ends(&one, NULL);
    g_rmdir(dir);
    rig_free(r);
}

static int refuse(void *rig, GError **err)
{
    struct rig *r = rig;

    g_assert_nonnull(r->disk->scratch);
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED, "refused");
    return -1;
}

/* An instant that fails after its views have got their scratch leaves none. */
static void test_fails_later(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct run one;

    run_new(&one, r, "one");
    instant_on_prepare(one.instant, refuse, r);
    instant_start(one.instant, wake, &one);
    assert_ends(&one, "refused");
    g_assert_null(r->disk->scratch);
    g_assert_cmpuint(r->disk->holding.holders, ==, 0);
    rig_free(r);
}

/* ---- hand-overs ---- */

/* A view whose first block an older one is just copying, as far as anybody can see. */
static struct view *two_views(struct rig *r, struct view **old)
{
    struct view *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    *old = rig_view(r, "old", CBW_BREAK_SNAPSHOT, 0);
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 64 * KIB, 'b');
    return new;
}

static void begin_deletion(struct run *run, struct view *v)
{
    run_init(run);
    g_assert_cmpint(instant_view_delete(run->instant, v, NULL), ==, 0);
    begin_to_wait(run);
}

static void assert_given_up(struct run *run)
{
    wait_wake(run);
    assert_fails(run, "given up before its instant");
}

/* A hand-over that waits for a copy that hangs ends when it is cancelled. Nothing is lost. */
static void test_cancel_while_a_copy_hangs(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *old, *new = two_views(r, &old);
    struct run run;

    atomic_store(&old->map[2], BLOCK_COPYING);
    begin_deletion(&run, new);
    while (atomic_load(&old->map[2]) != BLOCK_CONTENDED)
        g_thread_yield();
    instant_cancel(run.instant);
    assert_given_up(&run);
    atomic_store(&old->map[2], BLOCK_NEEDED);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_delete(r, new);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* The same, where a TRIM hangs that has the chain. */
static void test_cancel_while_a_trim_hangs(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *old, *new = two_views(r, &old);
    struct run run;

    g_assert_true(lock_chain(r->disk, NULL));
    begin_deletion(&run, new);
    while (pthread_mutex_trylock(&r->disk->chain_turn) ==
           0) { /* until it has its turn, and waits */
        pthread_mutex_unlock(&r->disk->chain_turn);
        g_thread_yield();
    }
    instant_cancel(run.instant);
    assert_given_up(&run);
    unlock_chain(r->disk);
    rig_delete(r, new);
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* The disk's end waits for no copy. */
static void test_end_while_a_copy_hangs(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *old, *new = two_views(r, &old);

    atomic_store(&old->map[2], BLOCK_COPYING);
    g_assert_cmpuint(rig_kept(new), ==, 64 * KIB);
    rig_free(r); /* looks whether all slots are back */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view-scratch/hangs", test_hangs);
    g_test_add_func("/view-scratch/given-up", test_given_up);
    g_test_add_func("/view-scratch/close-hangs", test_close_hangs);
    g_test_add_func("/view-scratch/end-of-the-disk", test_end_of_the_disk);
    g_test_add_func("/view-scratch/cannot-be-made", test_cannot_be_made);
    g_test_add_func("/view-scratch/fails-later", test_fails_later);
    g_test_add_func("/view-scratch/cancel-while-a-copy-hangs", test_cancel_while_a_copy_hangs);
    g_test_add_func("/view-scratch/cancel-while-a-trim-hangs", test_cancel_while_a_trim_hangs);
    g_test_add_func("/view-scratch/end-while-a-copy-hangs", test_end_while_a_copy_hangs);
    return g_test_run();
}
