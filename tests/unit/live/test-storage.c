/* SPDX-License-Identifier: BSD-3-Clause */
/* The storage that loses power and fails (tests/rigs/live-storage.h), by itself: a file is after a crash what the
 * rules allow, and each of these states comes up. And the images that it is used on are what they should be. */
#include "tests/rigs/live-images.h"
#include "tests/rigs/qcow2-oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    struct live_file f;
    char *path;
} file;

static void begin(size_t size)
{
    g_autofree char *bytes = g_malloc(size);

    memset(&file, 0, sizeof(file));
    memset(bytes, '.', size);
    file.path = g_strdup("/tmp/test-live-storage-XXXXXX");
    file.f.fd = g_mkstemp(file.path);
    g_assert_cmpint(file.f.fd, >=, 0);
    file.f.ops = &live_storage_ops;
    g_assert_cmpint(write(file.f.fd, bytes, size), ==, (ssize_t)size);
    atomic_store(&file.f.size, size);
    live_storage_begin();
    live_storage_add(file.path);
}

static void end(void)
{
    live_storage_end();
    close(file.f.fd);
    g_unlink(file.path);
    g_free(file.path);
}

static void put(char value, size_t length, uint64_t offset, bool durable)
{
    g_autofree char *bytes = g_malloc(length);

    memset(bytes, value, length);
    g_assert_cmpint(durable ? live_file_pwrite_durable(&file.f, bytes, length, offset)
                            : live_file_pwrite(&file.f, bytes, length, offset),
                    ==, 0);
}

/* A letter for each sector of the state: of its first byte, `_` for zero; ends with the size. */
static char *state(void)
{
    const struct live_content *c = live_crash_content(0);
    GString *s = g_string_new(NULL);

    for (uint64_t at = 0; at < c->size && at < 16 * 512; at += 512) {
        uint8_t byte;

        live_content_read(c, &byte, 1, at);
        g_string_append_c(s, byte ? (char)byte : '_');
    }
    g_string_append_printf(s, " %d", (int)c->size);
    return g_string_free(s, FALSE);
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All states there are after `at` events, in alphabetical order. */
static char *states(unsigned at)
{
    unsigned n = live_crash_at(at);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    uint8_t fates[LIVE_UNCERTAIN_MAX];

    for (unsigned set = 0; set < 1u << n; set++) {
        for (unsigned i = 0; i < n; i++)
            fates[i] = set >> i & 1 ? LIVE_DONE : LIVE_LOST;
        live_crash_make(fates, 1);
        g_autofree char *s = state();
        if (!g_ptr_array_find_with_equal_func(found, s, g_str_equal, NULL))
            g_ptr_array_add(found, g_steal_pointer(&s));
    }
    g_ptr_array_sort(found, by_text);
    g_ptr_array_add(found, NULL);
    return g_strjoinv(", ", (char **)found->pdata);
}

static void assert_states(unsigned at, const char *expected)
{
    g_autofree char *found = states(at);

    g_assert_cmpstr(found, ==, expected);
}

static void test_writes(void)
{
    begin(1024);
    put('a', 512, 0, false);
    put('b', 512, 512, false);
    assert_states(0, ".. 1024");
    assert_states(2, ".. 1024, .b 1024, a. 1024, ab 1024");
    g_assert_cmpint(live_file_sync(&file.f), ==, 0);
    assert_states(3, "ab 1024");
    put('c', 1024, 0, false);
    put('d', 512, 0, true);
    assert_states(5, "db 1024, dc 1024");
    end();
}

/* Two writes into one sector: the second takes what the first has written along. */
static void test_sector(void)
{
    const struct live_content *c;
    uint8_t fates[2] = {LIVE_LOST, LIVE_DONE};

    begin(512);
    put('a', 10, 0, false);
    put('b', 10, 100, false);
    g_assert_cmpuint(live_crash_at(2), ==, 2);
    live_crash_make(fates, 1);
    c = live_crash_content(0);
    g_assert_cmpint(c->bytes[5], ==, 'a');
    g_assert_cmpint(c->bytes[105], ==, 'b');
    g_assert_cmpint(c->bytes[50], ==, '.');
    end();
}

static void test_sizes(void)
{
    uint8_t fates[3] = {LIVE_SIZE_ONLY, LIVE_LOST, LIVE_LOST};

    begin(512);
    put('a', 512, 1024, false); /* it grows */
    assert_states(1, ". 512, ._a 1536");
    live_crash_make(fates, 1);
    g_autofree char *size_only = state();
    g_assert_cmpstr(size_only, ==, ".__ 1536");
    g_assert_cmpint(live_file_extend(&file.f, 2048), ==, 0);
    assert_states(2, ".___ 2048, ._a_ 2048");
    g_assert_cmpint(live_file_shorten(&file.f, 1024), ==, 0);
    assert_states(3, "._ 1024, .___ 2048, ._a_ 2048");
    g_assert_cmpint(live_file_extend(&file.f, 1536), ==, 0);
    assert_states(4, ".__ 1536");
    put('b', 512, 1024, false);
    g_assert_cmpint(live_file_zero(&file.f, 512, 1024, true), ==, 0);
    assert_states(6, ".__ 1536, ._b 1536");
    end();
}

static void test_tears(void)
{
    uint8_t fates[1] = {LIVE_FIRST_HALF};
    bool seen[16] = {false};

    begin(2048);
    put('a', 2048, 0, false);
    g_assert_cmpuint(live_crash_at(1), ==, 1);
    live_crash_make(fates, 1);
    g_autofree char *first = state();
    g_assert_cmpstr(first, ==, "aa.. 2048");
    fates[0] = LIVE_SECOND_HALF;
    live_crash_make(fates, 1);
    g_autofree char *second = state();
    g_assert_cmpstr(second, ==, "..aa 2048");
    fates[0] = LIVE_TORN;
    for (unsigned seed = 0; seed < 500; seed++) {
        unsigned set = 0;

        live_crash_make(fates, seed);
        for (unsigned i = 0; i < 4; i++)
            set |= (live_crash_content(0)->bytes[i * 512] == 'a') << i;
        seen[set] = true;
    }
    for (unsigned i = 0; i < 16; i++)
        g_assert_true(seen[i]);
    end();
}

static void test_sync_fails(void)
{
    const struct live_fault fault = {.kinds = LIVE_SYNC, .nth = 1, .error = EIO};

    begin(512);
    live_storage_fault(&fault);
    g_assert_cmpint(live_file_sync(&file.f), ==, 0);
    put('a', 512, 0, false);
    g_assert_cmpint(live_file_sync(&file.f), ==, -EIO);
    g_assert_true(live_storage_failed());
    g_assert_cmpint(live_file_sync(&file.f), ==, -EIO);
    /* One that does not heed it. */
    put('b', 512, 512, false);
    g_assert_cmpint(live_storage_ops.sync(&file.f), ==, 0);
    assert_states(live_storage_length(), ".b 1024, ab 1024");
    end();
}

static void test_faults(void)
{
    struct live_fault fault = {.kinds = LIVE_WRITE | LIVE_DURABLE, .nth = 1, .error = ENOSPC};

    begin(2048);
    live_storage_fault(&fault);
    put('a', 1024, 0, false);
    g_assert_cmpint(live_file_pwrite_durable(&file.f, "x", 1, 0), ==, -ENOSPC);
    put('b', 1024, 1024, false);
    assert_states(live_storage_length(), ".... 2048, ..bb 2048, aa.. 2048, aabb 2048");
    fault.half = fault.from_then_on = true;
    fault.nth = 0;
    live_storage_fault(&fault);
    g_assert_cmpint(live_file_pwrite(&file.f, file.path, 2, 0), ==, -ENOSPC);
    g_assert_cmpint(live_file_pwrite(&file.f, file.path, 2, 0), ==, -ENOSPC);
    g_assert_cmpuint(live_storage_count(), ==, 2);
    g_assert_cmpint(atomic_load(&file.f.sync_error), ==, 0);
    fault.medium = true;
    live_storage_fault(&fault);
    g_assert_cmpint(live_file_pwrite_durable(&file.f, "x", 1, 0), ==, -ENOSPC);
    g_assert_cmpint(atomic_load(&file.f.sync_error), ==, ENOSPC);
    end();
}

/* States are put into files as they are. */
static void test_put(void)
{
    uint8_t fates[40];
    g_autofree char *path = NULL;

    begin(1000);
    path = g_strdup_printf("%s.crash", file.path);
    for (unsigned i = 0; i < 40; i++)
        put((char)('a' + i % 26), (size_t)g_test_rand_int_range(1, 3000),
            (uint64_t)g_test_rand_int_range(0, 9000), g_test_rand_int_range(0, 10) == 0);
    for (unsigned at = 1; at <= 40; at++) {
        unsigned n = live_crash_at(at);
        g_autofree char *bytes = NULL;
        g_autofree uint8_t *expected = NULL;
        gsize size;

        for (unsigned i = 0; i < n; i++)
            fates[i] = (uint8_t)g_test_rand_int_range(0, LIVE_SECOND_HALF + 1);
        live_crash_make(fates, at);
        live_crash_put((const char *[]){path});
        g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
        g_assert_cmpuint(size, ==, live_crash_content(0)->size);
        expected = g_malloc(size);
        live_content_read(live_crash_content(0), expected, size, 0);
        g_assert_cmpmem(bytes, size, expected, size);
    }
    g_unlink(path);
    end();
}

/* ---- images ---- */

static void test_image(gconstpointer data)
{
    struct live_images im;

    if (!live_images_begin(&im, data))
        return;
    g_autofree char *folder = qcow2_rig_path(&im.rig, "work");
    struct qcow2_rig work = {.folder = folder};
    for (unsigned i = 0; i < 2; i++) {
        live_images_restart(&im);
        qcow2_assert_disk(&work, "i.qcow2", im.disk, im.size);
        qcow2_assert_clean(&work, "i.qcow2");
    }
    live_images_end(&im);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/storage/writes", test_writes);
    g_test_add_func("/storage/sector", test_sector);
    g_test_add_func("/storage/sizes", test_sizes);
    g_test_add_func("/storage/tears", test_tears);
    g_test_add_func("/storage/sync-fails", test_sync_fails);
    g_test_add_func("/storage/faults", test_faults);
    g_test_add_func("/storage/put", test_put);
    for (unsigned i = 0; i < live_n_kinds; i++) {
        g_autofree char *path = g_strdup_printf("/storage/image/%s", live_kinds[i].name);

        g_test_add_data_func(path, &live_kinds[i], test_image);
    }
    return g_test_run();
}
