/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading live images of all kinds: bytes, extents and places are what QEMU says. */
#include "tests/rigs/live-disk.h"

#include <errno.h>
#include <string.h>

/* ---- kinds of images ---- */

static void read_pieces(struct live_disk *d)
{
    for (unsigned i = 0; i < 200; i++) {
        size_t offset = (size_t)g_test_rand_int_range(0, (int)d->size);
        size_t length = (size_t)g_test_rand_int_range(1, 200000);

        live_disk_check_range(d, MIN(length, d->size - offset), offset);
    }
}

static void test_kind(gconstpointer opaque)
{
    const struct live_disk_kind *kind = opaque;
    struct live_disk d;

    if (!live_disk_make(&d, kind, true))
        return;
    live_disk_open(&d, false);
    live_disk_check(&d);
    read_pieces(&d);
    g_assert_cmpint(live_cache(d.image, d.size, 0), ==, 0);
    live_disk_check(&d);
    g_assert_cmpstr(d.told->str, ==, "");
    live_disk_close(&d);
    live_disk_judge(&d);
    live_disk_end(&d);
}

/* ---- what is a hole ---- */

static void test_extents(void)
{
    struct live_disk d;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f raw base 1M && "
                          "qemu-io -f raw -c 'write -q -P 1 0 128k' base && "
                          "qemu-img create -q -f qcow2 -b base -F raw disk.qcow2 200G && "
                          "qemu-io -f qcow2 -c 'write -q -P 2 256k 64k' -c 'write -q -z 0 64k' "
                          "-c 'write -q -c -P 3 512k 64k' disk.qcow2");
    d.model = g_malloc0(1);
    d.size = (size_t)200 << 30;
    live_disk_open(&d, false);
    live_disk_assert_extent(&d, 0, true, true);
    live_disk_assert_extent(&d, 64 << 10, false, false);
    live_disk_assert_extent(&d, 200 << 10, true, true);
    live_disk_assert_extent(&d, 256 << 10, false, false);
    live_disk_assert_extent(&d, 512 << 10, false, false);
    for (size_t offset = 576 << 10, n = 0; offset < d.size; n++) {
        uint64_t run;
        bool hole, zero;

        g_assert_cmpint(live_extent(d.image, d.size - offset, offset, &run, &hole, &zero), ==, 0);
        g_assert_true(hole && zero);
        g_assert_cmpuint(n, <, 2);
        offset += run;
    }
    live_disk_close(&d);
    live_disk_end(&d);
}

/* Metadata alone: the file has holes where the data would be. */
static void test_extents_preallocated(void)
{
    struct live_disk d;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f qcow2 -o preallocation=metadata disk.qcow2 20M && "
                          "qemu-io -f qcow2 -c 'write -q -P 2 1M 1M' disk.qcow2");
    live_disk_open(&d, false);
    live_disk_assert_extent(&d, 1 << 20, false, false);
    live_disk_check(&d);
    live_disk_close(&d);
    live_disk_end(&d);
}

/* ---- places ---- */

static void test_map(void)
{
    struct live_disk d;
    struct live_segment s;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f raw base 1M && "
                          "qemu-io -f raw -c 'write -q -P 1 0 1M' base && "
                          "qemu-img create -q -f qcow2 -b base -F raw disk.qcow2 4M && "
                          "qemu-io -f qcow2 -c 'write -q -P 2 256k 64k' -c 'write -q -z 0 64k' "
                          "-c 'write -q -c -P 3 512k 64k' disk.qcow2");
    live_disk_open(&d, false);
    s = live_map(d.image, 0, 4096, false);
    g_assert_cmpint(s.place, ==, LIVE_SLOW);
    live_disk_check(&d);
    s = live_map(d.image, 100, d.size, false);
    g_assert_cmpint(s.place, ==, LIVE_ZERO);
    g_assert_cmpuint(s.length, ==, (64 << 10) - 100);
    s = live_map(d.image, 64 << 10, d.size, false);
    g_assert_cmpint(s.place, ==, LIVE_DATA);
    g_assert_cmpuint(s.host, ==, 64 << 10);
    g_assert_cmpuint(s.length, ==, 192 << 10);
    g_assert_cmpint(s.fd, !=, live_fd(d.image));
    s = live_map(d.image, (256 << 10) + 7, d.size, false);
    g_assert_cmpint(s.place, ==, LIVE_DATA);
    g_assert_cmpuint(s.length, ==, (64 << 10) - 7);
    g_assert_cmpint(s.fd, ==, live_fd(d.image));
    s = live_map(d.image, 512 << 10, d.size, false);
    g_assert_cmpint(s.place, ==, LIVE_SLOW);
    s = live_map(d.image, 2 << 20, d.size - (2 << 20), false);
    g_assert_cmpint(s.place, ==, LIVE_ZERO);
    g_assert_cmpuint(s.length, ==, 2 << 20);
    live_disk_close(&d);
    live_disk_end(&d);
}

/* ---- what is damaged ---- */

static void assert_unreadable(struct live_disk *d, size_t length, size_t offset)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    g_assert_cmpint(live_pread(d->image, bytes, length, offset), ==, -EIO);
}

static unsigned count_told(struct live_disk *d)
{
    unsigned n = 0;

    for (const char *p = d->told->str; (p = strchr(p, '\n')); p++)
        n++;
    return n;
}

static void test_invalid(void)
{
    struct live_disk d;
    uint64_t run;
    bool hole, zero;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f qcow2 disk.qcow2 4M && "
                          "qemu-io -f qcow2 -c 'write -q -P 2 0 256k' disk.qcow2");
    d.model = qcow2_rig_disk(&d.rig, d.name, &d.size);
    qcow2_rig_put(&d.rig, d.name, qcow2_rig_l2(&d.rig, d.name, 1), 8, 0x8000000000012200);
    qcow2_rig_put(&d.rig, d.name, qcow2_rig_l2(&d.rig, d.name, 2), 8, 0x8000000100000000);
    live_disk_open(&d, false);
    live_disk_check_range(&d, 64 << 10, 0);
    assert_unreadable(&d, 4096, 64 << 10);
    assert_unreadable(&d, 4096, 128 << 10);
    assert_unreadable(&d, 256 << 10, 0);
    g_assert_cmpint(live_map(d.image, 64 << 10, 1, false).place, ==, LIVE_SLOW);
    g_assert_cmpint(live_extent(d.image, 4096, 128 << 10, &run, &hole, &zero), ==, -EIO);
    live_disk_check_range(&d, 64 << 10, 192 << 10);
    g_assert_true(live_disk_was_told(&d, "disk.qcow2"));
    g_assert_cmpuint(count_told(&d), ==, 1);
    live_disk_close(&d);
    live_disk_end(&d);
}

static void test_damaged_compressed(void)
{
    struct live_disk d;
    uint64_t host;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f qcow2 disk.qcow2 4M && "
                          "qemu-io -f qcow2 -c 'write -q -c -P 2 0 256k' disk.qcow2");
    d.model = qcow2_rig_disk(&d.rig, d.name, &d.size);
    host = qcow2_rig_get(&d.rig, d.name, qcow2_rig_l2(&d.rig, d.name, 1), 8) & 0xffffffff;
    qcow2_rig_put(&d.rig, d.name, host, 8, UINT64_MAX);
    live_disk_open(&d, false);
    for (unsigned i = 0; i < 3; i++)
        assert_unreadable(&d, 4096, 100 << 10);
    live_disk_check_range(&d, 64 << 10, 0);
    live_disk_check_range(&d, 128 << 10, 128 << 10);
    g_assert_true(live_disk_was_told(&d, "compressed data are damaged"));
    g_assert_cmpuint(count_told(&d), ==, 1);
    live_disk_close(&d);
    live_disk_end(&d);
}

/* ---- threads ---- */

/* More compressed clusters than are kept, read by several threads at once. */
struct reader {
    struct live_disk *d;
    GThread *thread;
    guint32 seed;
};

static gpointer read_at_random(gpointer opaque)
{
    const struct reader *r = opaque;
    struct live_disk *d = r->d;
    g_autoptr(GRand) rand = g_rand_new_with_seed(r->seed);

    for (unsigned i = 0; i < 400; i++) {
        size_t offset = (size_t)g_rand_int_range(rand, 0, (int)d->size - 1);
        size_t length = (size_t)g_rand_int_range(rand, 1, 100000);

        live_disk_check_range(d, MIN(length, d->size - offset), offset);
    }
    return NULL;
}

static void test_threads(void)
{
    struct live_disk d;
    struct reader readers[4];

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f qcow2 -o cluster_size=16k plain.qcow2 4M");
    qcow2_rig_fill(&d.rig, "plain.qcow2", 4 << 20, 60);
    qcow2_rig_run(&d.rig, "qemu-img convert -c -f qcow2 -O qcow2 -o cluster_size=16k plain.qcow2 "
                          "disk.qcow2");
    live_disk_open(&d, false);
    for (unsigned i = 0; i < G_N_ELEMENTS(readers); i++) {
        readers[i] = (struct reader){.d = &d, .seed = (guint32)g_test_rand_int()};
        readers[i].thread = g_thread_new("reader", read_at_random, &readers[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(readers); i++)
        g_thread_join(readers[i].thread);
    live_disk_close(&d);
    live_disk_end(&d);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < live_disk_n_kinds; i++) {
        g_autofree char *path = g_strdup_printf("/read/kinds/%s", live_disk_kinds[i].name);

        g_test_add_data_func(path, &live_disk_kinds[i], test_kind);
    }
    g_test_add_func("/read/extents", test_extents);
    g_test_add_func("/read/extents-preallocated", test_extents_preallocated);
    g_test_add_func("/read/map", test_map);
    g_test_add_func("/read/invalid", test_invalid);
    g_test_add_func("/read/damaged-compressed", test_damaged_compressed);
    g_test_add_func("/read/threads", test_threads);
    return g_test_run();
}
