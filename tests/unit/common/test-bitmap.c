/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/bitmap.h"
#include "common/base/extents.h"
#include "common/util/bitmap-glib.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define TIB (MIB * 1024 * 1024)

static struct bitmap *make(uint64_t size, uint32_t granularity)
{
    GError *error = NULL;
    struct bitmap *b = bitmap_new(size, granularity, &error);

    g_assert_no_error(error);
    return b;
}

static void test_exact(void)
{
    struct bitmap *b = make(1 * MIB, 4096);

    bitmap_set(b, 4095, 2);
    g_assert_true(bitmap_test(b, 0));
    g_assert_true(bitmap_test(b, 8191));
    g_assert_false(bitmap_test(b, 8192));
    g_assert_cmpuint(bitmap_count(b), ==, 8192);
    bitmap_set(b, 8192, 0);
    g_assert_cmpuint(bitmap_count(b), ==, 8192);
    bitmap_set(b, 1 * MIB - 1, 100);
    g_assert_cmpuint(bitmap_count(b), ==, 12288);
    bitmap_set(b, 1 * MIB, UINT64_MAX);
    g_assert_cmpuint(bitmap_count(b), ==, 12288);
    bitmap_set(b, 512 * KIB, UINT64_MAX);
    g_assert_cmpuint(bitmap_count(b), ==, 512 * KIB + 8192);
    bitmap_unref(b);
}

/* Every range of a small bitmap against a plain array. */
static void test_all_ranges(void)
{
    const uint64_t granules = 200;

    for (uint64_t from = 0; from < granules; from += 7) {
        for (uint64_t n = 1; from + n <= granules; n++) {
            struct bitmap *b = make(granules * 512 - 100, 512);
            uint64_t start, length, expected_end = MIN((from + n) * 512, granules * 512 - 100);

            bitmap_set(b, from * 512, n * 512);
            g_assert_true(bitmap_next_dirty(b, 0, UINT64_MAX, &start, &length));
            g_assert_cmpuint(start, ==, from * 512);
            g_assert_cmpuint(start + length, ==, expected_end);
            g_assert_false(bitmap_next_dirty(b, start + length, UINT64_MAX, &start, &length));
            g_assert_cmpuint(bitmap_count(b), ==, n * 512);
            bitmap_unref(b);
        }
    }
}

static void test_random(void)
{
    const uint64_t size = 3 * MIB + 777;
    g_autofree bool *model = g_new0(bool, size / 512 + 1);
    struct bitmap *b = make(size, 512);
    uint64_t at = 0;

    for (int i = 0; i < 300; i++) {
        uint64_t offset = (uint64_t)g_test_rand_int_range(0, (int)size);
        uint64_t length = (uint64_t)g_test_rand_int_range(1, i % 10 ? 3000 : 100000);

        bitmap_set(b, offset, length);
        length = MIN(length, size - offset);
        for (uint64_t g = offset / 512; g <= (offset + length - 1) / 512; g++)
            model[g] = true;
    }
    /* Walk the runs from every kind of start. */
    while (at < size) {
        uint64_t start, length, end = MIN(at + 100000, size);
        bool found = bitmap_next_dirty(b, at, end, &start, &length);

        g_assert_true(!found || (start >= at && start + length <= end));
        for (uint64_t p = at; p < (found ? start : end); p++)
            g_assert_false(model[p / 512]);
        if (found) {
            for (uint64_t p = start; p < start + length; p++)
                g_assert_true(model[p / 512]);
            if (start + length < end)
                g_assert_false(model[(start + length) / 512]);
        }
        at = found ? start + length : end;
    }
    bitmap_unref(b);
}

/* Ranges that begin and end inside granules and words; the last granule alone in its word. */
static void test_edges(void)
{
    struct bitmap *b = make(64 * 512 + 1, 512);
    uint64_t start, length;

    bitmap_set(b, 64 * 512, 1);
    g_assert_true(bitmap_next_dirty(b, 0, UINT64_MAX, &start, &length));
    g_assert_cmpuint(start, ==, 64 * 512);
    g_assert_cmpuint(length, ==, 1);
    g_assert_cmpuint(bitmap_count(b), ==, 512);
    g_assert_true(bitmap_test(b, 64 * 512));
    g_assert_false(bitmap_test(b, 64 * 512 + 1)); /* past the end, in the same granule */
    g_assert_false(bitmap_test(b, UINT64_MAX));
    g_assert_false(bitmap_next_dirty(b, 0, 64 * 512, &start, &length));
    bitmap_set(b, 10 * 512, 1);
    g_assert_false(bitmap_next_dirty(b, 100, 10 * 512, &start, &length));
    g_assert_true(bitmap_next_dirty(b, 10 * 512 + 100, 10 * 512 + 200, &start, &length));
    g_assert_cmpuint(start, ==, 10 * 512 + 100);
    g_assert_cmpuint(length, ==, 100);
    bitmap_unref(b);
}

/* A scan from the summaries finds a write over several words of each summary up to its end. */
static void test_long_set(void)
{
    const uint64_t top = 4096 * 512; /* a bit of the upper summary */
    struct bitmap *b = make(200 * top, 512);
    uint64_t start, length;

    bitmap_set(b, top / 2, 150 * top);
    for (uint64_t at = top / 2; at < 150 * top; at += 7 * top) {
        g_assert_true(bitmap_next_dirty(b, at, UINT64_MAX, &start, &length));
        g_assert_cmpuint(start, ==, at);
        g_assert_cmpuint(start + length, ==, 150 * top + top / 2);
    }
    g_assert_cmpuint(bitmap_count(b), ==, 150 * top);
    bitmap_unref(b);
}

static void test_references(void)
{
    struct bitmap *b = make(1 * MIB, 512);

    bitmap_ref(b);
    bitmap_unref(b);
    bitmap_set(b, 0, 1);
    g_assert_cmpuint(bitmap_count(b), ==, 512);
    bitmap_unref(b);
}

static void count_release(void *opaque)
{
    ++*(unsigned *)opaque;
}

static struct bitmap *make_over(uint64_t *words, uint64_t size, unsigned *released)
{
    GError *error = NULL;
    struct bitmap *b = bitmap_new_over(words, size, 512, count_release, released, &error);

    g_assert_no_error(error);
    return b;
}

/* A second bitmap finds the bits of the first one in their memory, as after a restart. */
static void test_over_memory(void)
{
    const uint64_t size = 300 * 4096 * 512 + 77;
    const uint64_t n = bitmap_words(size, 512);
    g_autofree uint64_t *words = g_new0(uint64_t, n);
    unsigned released = 0;
    struct bitmap *plain = make(size, 512), *b = make_over(words, size, &released);
    g_autofree char *want = NULL, *have = NULL;
    uint64_t start, length;

    g_assert_cmpuint(n, ==, 300 * 64 + 1);
    for (uint64_t at = 100; at < size; at += size / 17) {
        bitmap_set(plain, at, 700);
        bitmap_set(b, at, 700);
    }
    bitmap_set(plain, size - 1, 1);
    bitmap_set(b, size - 1, 1);
    g_assert_cmpuint(bitmap_count(b), ==, bitmap_count(plain));
    g_assert_cmphex(words[n - 1], ==, 1);
    bitmap_unref(bitmap_ref(b));
    g_assert_cmpuint(released, ==, 0);
    bitmap_unref(b);
    g_assert_cmpuint(released, ==, 1);

    b = make_over(words, size, &released);
    bitmap_summarise(b);
    g_assert_cmpuint(bitmap_count(b), ==, bitmap_count(plain));
    want = bitmap_sha256(plain);
    have = bitmap_sha256(b);
    g_assert_cmpstr(have, ==, want);
    g_assert_true(bitmap_next_dirty(b, size / 17 + 5000, UINT64_MAX, &start, &length));
    g_assert_cmpuint(start, ==, (2 * (size / 17) + 100) / 512 * 512);
    bitmap_unref(b);
    bitmap_unref(plain);
    g_assert_cmpuint(released, ==, 2);
}

static void *summarise_task(void *bitmap)
{
    bitmap_summarise(bitmap);
    return NULL;
}

/* Guests write while the bits of the last run are being found. */
static void test_summarised_while_set(void)
{
    const uint64_t size = 64 * MIB;
    g_autofree uint64_t *words = g_new0(uint64_t, bitmap_words(size, 512));
    unsigned released = 0;
    struct bitmap *b = make_over(words, size, &released);
    pthread_t thread;

    for (uint64_t w = 0; w < bitmap_words(size, 512); w += 2)
        words[w] = 1;
    g_assert_cmpint(pthread_create(&thread, NULL, summarise_task, b), ==, 0);
    for (uint64_t w = 1; w < bitmap_words(size, 512); w += 2)
        bitmap_set(b, w * 64 * 512, 512);
    pthread_join(thread, NULL);
    g_assert_cmpuint(bitmap_count(b), ==, size / 64);
    bitmap_unref(b);
}

static void test_merge_granularities(void)
{
    struct bitmap *fine = make(1 * MIB, 512), *coarse = make(1 * MIB, 65536);

    bitmap_set(fine, 70000, 1);
    bitmap_merge(coarse, fine);
    g_assert_cmpuint(bitmap_count(coarse), ==, 65536);
    g_assert_true(bitmap_test(coarse, 65536));
    bitmap_merge(fine, coarse);
    g_assert_cmpuint(bitmap_count(fine), ==, 65536);
    bitmap_unref(fine);
    bitmap_unref(coarse);
}

/* The words of a 1 MiB disk at 64 KiB: 16 bits, one word. sha256 of 8 bytes 05 00 .. 00. */
static void test_sha256(void)
{
    struct bitmap *b = make(1 * MIB, 65536);
    g_autofree char *sum = NULL, *expected = NULL;

    bitmap_set(b, 0, 1);
    bitmap_set(b, 131072, 1);
    sum = bitmap_sha256(b);
    expected =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)"\5\0\0\0\0\0\0\0", 8);
    g_assert_cmpstr(sum, ==, expected);
    bitmap_unref(b);
}

static uint64_t resident(void)
{
    uint64_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    g_assert_nonnull(f);
    g_assert_cmpint(fscanf(f, "%*u %" G_GUINT64_FORMAT, &pages), ==, 1);
    fclose(f);
    return pages * 4096;
}

/* An empty bitmap of 8 TiB takes hardly any memory, also after a search; a scattered one takes a
 * page for each place. */
static void test_memory(void)
{
    uint64_t before = resident(), start, length, n = 0;
    struct bitmap *b = make(8 * TIB, 65536);

    g_assert_false(bitmap_next_dirty(b, 0, UINT64_MAX, &start, &length));
    g_assert_cmpuint(bitmap_count(b), ==, 0);
    g_assert_cmpuint(resident() - before, <, 1 * MIB);
    for (uint64_t at = 0; at < 8 * TIB; at += TIB / 4)
        bitmap_set(b, at, 1);
    for (uint64_t at = 0; bitmap_next_dirty(b, at, UINT64_MAX, &start, &length);
         at = start + length)
        n++;
    g_assert_cmpuint(n, ==, 32);
    if (strcmp(g_getenv("SANITIZER") ? g_getenv("SANITIZER") : "no", "no") == 0)
        g_assert_cmpuint(resident() - before, <, 2 * MIB);
    bitmap_unref(b);
}

/* Over a sparse file in memory, pages are taken where bits are set, and nowhere else: not by a reader
 * that asks for one piece after another, as NBD clients do. */
static void test_sparse_file(void)
{
    const uint64_t size = 8 * TIB, length = bitmap_words(size, 65536) * sizeof(uint64_t);
    int fd = memfd_create("words", MFD_CLOEXEC);
    unsigned released = 0;
    uint64_t start, found, n = 0;
    struct stat taken;

    g_assert_cmpint(ftruncate(fd, (off_t)length), ==, 0);
    uint64_t *words = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(words != MAP_FAILED);
    struct bitmap *b = bitmap_new_over(words, size, 65536, count_release, &released, NULL);
    bitmap_set(b, 0, 1);
    bitmap_set(b, 5 * TIB, 1);
    for (uint64_t at = 0; at < size; at += TIB / 1024)
        n += bitmap_next_dirty(b, at, at + TIB / 1024, &start, &found);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpuint(bitmap_count(b), ==, 2 * 65536);
    g_free(bitmap_sha256(b));
    g_assert_cmpint(fstat(fd, &taken), ==, 0);
    g_assert_cmpint(taken.st_blocks * 512, ==, 2 * sysconf(_SC_PAGESIZE));
    bitmap_unref(b);
    munmap(words, length);
    close(fd);
}

static void test_largest(void)
{
    struct bitmap *b = make(INT64_MAX, BITMAP_MAX_GRANULARITY);
    uint64_t start, length;

    bitmap_set(b, INT64_MAX - 1, 1);
    g_assert_true(bitmap_next_dirty(b, 0, UINT64_MAX, &start, &length));
    g_assert_cmpuint(start + length, ==, INT64_MAX);
    bitmap_unref(b);
}

/* Threads that set different bits of the same words lose none. They begin together, so that they
 * are at the same word as often as can be; test-bitmap-schedules tries each order of two. */
#define SETTERS  8
#define GRANULES UINT64_C(100000)

struct setter {
    struct bitmap *bits;
    pthread_barrier_t *begin;
    uint64_t first;
};

static gpointer set_every_eighth(gpointer p)
{
    struct setter *s = p;

    pthread_barrier_wait(s->begin);
    for (uint64_t g = s->first; g < GRANULES; g += SETTERS)
        bitmap_set(s->bits, g * 512, 1);
    return NULL;
}

static void test_threads(void)
{
    struct bitmap *b = make(GRANULES * 512, 512);
    struct setter setters[SETTERS];
    GThread *threads[SETTERS];
    pthread_barrier_t begin;

    pthread_barrier_init(&begin, NULL, SETTERS);
    for (unsigned t = 0; t < SETTERS; t++) {
        setters[t] = (struct setter){b, &begin, t};
        threads[t] = g_thread_new("setter", set_every_eighth, &setters[t]);
    }
    for (unsigned t = 0; t < SETTERS; t++)
        g_thread_join(threads[t]);
    pthread_barrier_destroy(&begin);
    g_assert_cmpuint(bitmap_count(b), ==, GRANULES * 512);
    bitmap_unref(b);
}

static void test_extents(void)
{
    struct extents e = EXTENTS_INIT;

    g_assert_cmpint(extents_add(&e, 100, 0), ==, 0);
    g_assert_cmpint(extents_add(&e, 0, 1), ==, 0);
    g_assert_cmpint(extents_add(&e, 50, 0), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpint(extents_add(&e, 10, 1), ==, 0);
    g_assert_cmpuint(e.total, ==, 160);
    extents_truncate(&e, 155);
    g_assert_cmpuint(e.list[1].length, ==, 5);
    g_assert_cmpuint(e.total, ==, 155);
    extents_truncate(&e, 150);
    g_assert_cmpuint(e.count, ==, 1);
    extents_clear(&e);
    for (unsigned i = 0; i < EXTENTS_MAX; i++)
        g_assert_cmpint(extents_add(&e, 1, i & 1), ==, 0);
    g_assert_cmpint(extents_add(&e, 1, EXTENTS_MAX & 1), ==, -ENOSPC);
    g_assert_cmpuint(e.total, ==, EXTENTS_MAX);
    g_assert_cmpint(extents_add(&e, 5, (EXTENTS_MAX - 1) & 1), ==, 0); /* the last one grows */
    g_assert_cmpuint(e.total, ==, EXTENTS_MAX + 5);
    extents_free(&e);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bitmap/exact", test_exact);
    g_test_add_func("/bitmap/all-ranges", test_all_ranges);
    g_test_add_func("/bitmap/random", test_random);
    g_test_add_func("/bitmap/edges", test_edges);
    g_test_add_func("/bitmap/long-set", test_long_set);
    g_test_add_func("/bitmap/references", test_references);
    g_test_add_func("/bitmap/over-memory", test_over_memory);
    g_test_add_func("/bitmap/summarised-while-set", test_summarised_while_set);
    g_test_add_func("/bitmap/merge-granularities", test_merge_granularities);
    g_test_add_func("/bitmap/sha256", test_sha256);
    g_test_add_func("/bitmap/memory", test_memory);
    g_test_add_func("/bitmap/sparse-file", test_sparse_file);
    g_test_add_func("/bitmap/largest", test_largest);
    g_test_add_func("/bitmap/threads", test_threads);
    g_test_add_func("/extents", test_extents);
    return g_test_run();
}
