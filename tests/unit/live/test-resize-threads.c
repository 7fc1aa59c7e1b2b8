/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk that grows while it is read and flushed: nobody but writers waits for that. The L1 table gets longer all
 * the time, and readers may be at any older one.
 */
#include "common/live/live.h"
#include "tests/rigs/qcow2-rig.h"

#include <stdatomic.h>
#include <string.h>

#define KIB     1024
#define SIZE    (256 * KIB) /* before: 8 tables */
#define STEPS   100
#define STEP    (64 * KIB)
#define READERS 3
#define VALUE   0x5a

struct disk {
    struct qcow2_rig rig;
    struct live_image *image;
    atomic_bool grown;
};

static void check(const uint8_t *bytes, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != value)
            g_error("%u at %zu", bytes[i], i);
}

static void read_once(struct disk *d, uint8_t *bytes)
{
    uint64_t offset = (uint64_t)g_random_int_range(0, SIZE / KIB) * KIB, size, run;
    bool hole, zero;

    g_assert_cmpint(live_pread(d->image, bytes, KIB, offset), ==, 0);
    check(bytes, KIB, VALUE);
    g_assert_cmpint(live_map(d->image, offset, KIB, false).place, !=, LIVE_ZERO);
    /* Whatever is told of the new part, it can be read. */
    size = live_size(d->image);
    g_assert_cmpint(live_extent(d->image, size - offset, offset, &run, &hole, &zero), ==, 0);
    if (size > SIZE) {
        g_assert_cmpint(live_pread(d->image, bytes, KIB, size - KIB), ==, 0);
        check(bytes, KIB, 0);
    }
}

static gpointer read_all_the_time(gpointer opaque)
{
    struct disk *d = opaque;
    uint8_t bytes[KIB];

    while (!atomic_load(&d->grown))
        read_once(d, bytes);
    return NULL;
}

static gpointer flush_all_the_time(gpointer opaque)
{
    struct disk *d = opaque;

    while (!atomic_load(&d->grown))
        g_assert_cmpint(live_flush(d->image), ==, 0);
    return NULL;
}

static bool begin(struct disk *d)
{
    const struct live_options o = {.writable = true, .open.writable = true, .locking = true};
    g_autofree char *path = NULL;
    struct q2_error err;

    memset(d, 0, sizeof(*d));
    if (!qcow2_rig_begin(&d->rig))
        return false;
    qcow2_rig_run(&d->rig,
                  "qemu-img create -q -f qcow2 -o cluster_size=512 i.qcow2 %d && "
                  "qemu-io -f qcow2 -c 'write -P %d 0 %d' i.qcow2 >/dev/null",
                  SIZE, VALUE, SIZE);
    path = qcow2_rig_path(&d->rig, "i.qcow2");
    d->image = live_open(path, &o, &err);
    if (!d->image || live_start(d->image, &err) < 0)
        g_error("%s", err.text);
    return true;
}

static void end(struct disk *d)
{
    struct q2_error err;

    if (live_close(d->image, &err) < 0)
        g_error("%s", err.text);
    qcow2_rig_run(&d->rig, "qemu-img check -q i.qcow2");
    qcow2_rig_end(&d->rig);
}

static void test_growing(void)
{
    GThread *threads[READERS + 1];
    struct disk d;

    if (!begin(&d))
        return;
    for (unsigned i = 0; i < READERS; i++)
        threads[i] = g_thread_new("reader", read_all_the_time, &d);
    threads[READERS] = g_thread_new("flusher", flush_all_the_time, &d);
    for (unsigned i = 1; i <= STEPS; i++)
        g_assert_cmpint(live_resize(d.image, SIZE + (uint64_t)i * STEP), ==, 0);
    atomic_store(&d.grown, true);
    for (unsigned i = 0; i <= READERS; i++)
        g_thread_join(threads[i]);
    end(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/live/resize-threads/growing", test_growing);
    return g_test_run();
}
