/* SPDX-License-Identifier: BSD-3-Clause */
/* Our file plugin on block devices. */
#include "tests/backend/file-disk.h"
#include "tests/backend/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void check_block_device(const char *backing, const char *device, const char *direct,
                               uint32_t sector)
{
    struct disk d = open_disk("file", device, "direct", direct);

    g_assert_cmpuint(d.h->size, ==, 8 * MIB);
    g_assert_cmpuint(d.h->min_block, ==, strcmp(direct, "on") ? 1 : sector);
    g_assert_false(d.h->can_extents);
    write_pattern(&d, 3, 4 * MIB, MIB, BACKEND_FUA);
    assert_pattern(&d, 3, 4 * MIB, MIB);

    g_assert_cmpint(d.b->ops->zero(d.h, MIB, MIB, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(d.b->ops->zero(d.h, MIB, 2 * MIB, BACKEND_FUA), ==, 0);
    assert_pattern(&d, 0, 2 * MIB, MIB);
    if (d.h->min_block == 1) { /* no device can do that; it is done by writing */
        g_assert_cmpint(d.b->ops->zero(d.h, 50, 3 * MIB + 7, BACKEND_MAY_TRIM), ==, 0);
        g_assert_cmpint(d.b->ops->zero(d.h, 50, 3 * MIB + 7, BACKEND_FAST), ==, -ENOTSUP);
        assert_pattern(&d, 0, 50, 3 * MIB + 7);
        assert_pattern(&d, 3, 7, 3 * MIB);
        g_assert_cmpint(d.b->ops->trim(d.h, 50, 3 * MIB + 100, 0), ==, 0);
        assert_pattern(&d, 3, 50, 3 * MIB + 100);
    }
    uint64_t before = allocated(backing);
    g_assert_cmpint(d.b->ops->trim(d.h, MIB, 4 * MIB, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(allocated(backing), <=, before - MIB);
    g_assert_cmpint(d.b->ops->flush(d.h), ==, 0);

    g_autoptr(GError) err = NULL;
    g_assert_cmpint(d.b->ops->resize(d.h, 4 * MIB, &err), <, 0);
    assert_contains(err->message, device);
    close_disk(&d);
}

static void test_block_device(gconstpointer sector)
{
    g_autofree char *backing = harness_file("backing", 8 * MIB, NULL, 0);
    struct loop device;

    if (!loop_take(&device, backing, GPOINTER_TO_UINT(sector), false))
        return;
    check_block_device(backing, device.path, "off", GPOINTER_TO_UINT(sector));
    check_block_device(backing, device.path, "on", GPOINTER_TO_UINT(sector));
    loop_release(&device);
}

/* A device that can be opened for writing, but only be read. */
static void test_readonly_device(void)
{
    g_autofree char *backing = harness_file("read-only", 8 * MIB, "data", 4);
    struct loop device;

    if (!loop_take(&device, backing, 512, true))
        return;
    struct backend *b = harness_load("file", "file", device.path, NULL);
    harness_log_begin();
    struct disk d = {.b = b, .h = harness_open(b)};
    g_autofree char *log = harness_log_end();
    g_assert_false(d.h->can_write || d.h->can_trim || d.h->can_fua);
    g_assert_cmpuint(d.h->size, ==, 8 * MIB);
    assert_contains(log, device.path);
    assert_contains(log, "read-only");
    g_assert_cmpint(d.b->ops->flush(d.h), ==, 0);
    close_disk(&d);
    loop_release(&device);
}

/* Several threads that take loop devices at the same time get one each, with their own data. */
static void *take_many(void *opaque)
{
    const char *backing = opaque;
    char expected[5] = "", seen[5] = "";
    int fd = open(backing, O_RDONLY | O_CLOEXEC);

    g_assert_cmpint(pread(fd, expected, 4, 0), ==, 4);
    close(fd);
    for (int i = 0; i < 20; i++) {
        struct loop device;

        if (!loop_take(&device, backing, 512, i % 2))
            return NULL;
        g_assert_cmpint(pread(device.fd, seen, 4, 0), ==, 4);
        g_assert_cmpstr(seen, ==, expected);
        loop_release(&device);
    }
    return NULL;
}

static void test_many_loop_devices(void)
{
    pthread_t threads[4];
    char *backing[4];
    struct loop first;

    g_autofree char *any = harness_file("first", MIB, NULL, 0);
    if (!loop_take(&first, any, 512, false))
        return;
    for (int i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("many%d", i);
        g_autofree char *data = g_strdup_printf("no %d", i);

        backing[i] = harness_file(name, MIB, data, 4);
        pthread_create(&threads[i], NULL, take_many, backing[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        g_free(backing[i]);
    }
    loop_release(&first);
}

static void add_tests(void)
{
    g_test_add_data_func("/file/block-device/512", GUINT_TO_POINTER(512), test_block_device);
    g_test_add_data_func("/file/block-device/4096", GUINT_TO_POINTER(4096), test_block_device);
    g_test_add_func("/file/block-device/read-only", test_readonly_device);
    g_test_add_func("/file/block-device/many", test_many_loop_devices);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
