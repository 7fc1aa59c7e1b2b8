/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants that resize, run step by step: other disks go on while an image is being resized.
 */
#include "tests/rigs/instant-rig.h"

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

    run_add_bitmap(r, a, "x");
    run_start(r);
    assert_run_done(r);
    fake_backend_set_hook(a->backend, hold_resize, &h);
    if (shrink)
        node_io_close(a->io);
    r = run_new();
    g_assert_cmpint(instant_resize(r->instant, a->disk, size, NULL), ==, 0);
    run_start(r);
    while (shrink && !atomic_load(&a->disk->gate.closed)) /* the bits of the new size come first */
        run_go_on(r);
    wait_resize(&h);
    assert_run_waits(r, "disk a: the image is being resized");
    g_assert_cmpint(instant_deadline(r->instant), ==, G_MAXINT64);
    assert_disk_works(other);
    assert_disk_refuses(a);
    release_resize(&h);
    assert_run_done(r);
    g_assert_cmpuint(disk_size(a->disk), ==, size);
    g_assert_cmpuint(rig_count(a, "x"), ==, shrink ? 0 : 1 * MIB);
    if (shrink)
        g_assert_cmpint(node_io_open(disk_node(a->disk), true, false, NULL, &a->io, &error), ==, 0);
    assert_disk_works(a);
    rig_free(a);
    rig_free(other);
}

static void test_resize_hangs(void)
{
    resize_held(false);
    resize_held(true);
}

/* A command is given up while its image grows: the image gets its old size again. */
static void test_cancel_while_growing(void)
{
    struct rig *a = named_rig("a");
    struct held_resize h = HELD_RESIZE;
    struct run *r = run_new();

    fake_backend_set_hook(a->backend, hold_resize, &h);
    g_assert_cmpint(instant_resize(r->instant, a->disk, 2 * MIB, NULL), ==, 0);
    run_start(r);
    wait_resize(&h);
    instant_cancel(r->instant);
    run_step(r);
    assert_run_waits(r, "disk a: the image is being resized");
    release_resize(&h);
    assert_run_failed(r, "given up before its instant");
    g_assert_cmpuint(h.resizes, ==, 2);
    g_assert_cmpuint(disk_size(a->disk), ==, 1 * MIB);
    assert_disk_works(a);
    rig_free(a);
}

/* While a transaction waits, its disks are not resized. */
static void test_resize_beside_transaction(void)
{
    struct rig *a = named_rig("a");
    GThread *in_a = rig_park_writer(a);
    struct run *r = run_new();

    run_add_bitmap(r, a, "x");
    run_start(r);
    assert_disk_refuses(a);
    rig_let_go(a, in_a);
    assert_run_done(r);
    r = run_new();
    g_assert_cmpint(instant_resize(r->instant, a->disk, 2 * MIB, NULL), ==, 0);
    run_start(r);
    assert_run_done(r);
    g_assert_cmpuint(disk_size(a->disk), ==, 2 * MIB);
    rig_free(a);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instant-resize/resize-hangs", test_resize_hangs);
    g_test_add_func("/instant-resize/cancel-while-growing", test_cancel_while_growing);
    g_test_add_func("/instant-resize/resize-beside-a-transaction", test_resize_beside_transaction);
    return g_test_run();
}
