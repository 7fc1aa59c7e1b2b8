/* SPDX-License-Identifier: BSD-3-Clause */
/* What is to be trimmed later: in any order, in parts, and bounded. */
#include "common/copy/trims.h"

#define KiB UINT64_C(1024)

static void add(struct trims *t, uint64_t offset, uint64_t length)
{
    struct plan_range r = {offset, length, false};

    trims_add(t, &r, 1);
}

/* All that can be taken: bytes. None of it is at `limit` or beyond. */
static uint64_t take_below(struct trims *t, uint64_t limit)
{
    uint64_t offset, length, bytes = 0;

    while (trims_take(t, &offset, &length)) {
        g_assert_cmpuint(length, >, 0);
        g_assert_cmpuint(offset + length, <=, limit);
        bytes += length;
    }
    return bytes;
}

static void test_release(void)
{
    struct trims *t = trims_new();

    add(t, 100, 50);
    add(t, 0, 10);
    add(t, 300, 100);
    g_assert_cmpuint(take_below(t, 0), ==, 0);
    trims_release(t, 100); /* the first one begins there */
    g_assert_cmpuint(take_below(t, 100), ==, 10);
    trims_release(t, 350); /* in the middle of the last one */
    g_assert_cmpuint(take_below(t, 350), ==, 100);
    trims_release(t, UINT64_MAX);
    g_assert_cmpuint(take_below(t, 400), ==, 50);
    trims_release(t, UINT64_MAX);
    g_assert_cmpuint(take_below(t, 0), ==, 0);
    trims_free(t);
    trims_free(NULL);
}

/* Two lanes that copy every second block of a large disk: theirs touch, and all are kept. */
static void test_merged(void)
{
    struct trims *t = trims_new();
    uint64_t n = 600000;

    for (uint64_t i = 0; i < n; i += 8) {
        for (uint64_t k = i; k < i + 8; k += 2)
            add(t, k * KiB, KiB);
        for (uint64_t k = i + 1; k < i + 8; k += 2)
            add(t, k * KiB, KiB);
    }
    trims_release(t, n * KiB);
    g_assert_false(trims_are_many(t));
    g_assert_cmpuint(take_below(t, n * KiB), ==, n * KiB);
    trims_free(t);
}

/* Ranges that do not touch are forgotten where there are too many, but none is taken twice. */
static void test_bounded(void)
{
    struct trims *t = trims_new();
    uint64_t n = 1000000, offset, length, taken = 0, last = UINT64_MAX;

    for (uint64_t i = 0; i < n; i++)
        add(t, 2 * i * KiB, KiB);
    g_assert_true(trims_are_many(t));
    trims_release(t, UINT64_MAX);
    while (trims_take(t, &offset, &length)) {
        g_assert_cmpuint(length, ==, KiB);
        g_assert_cmpuint(offset, <, last); /* these came in order, and leave from the end */
        last = offset;
        taken++;
    }
    g_assert_cmpuint(taken, >, 100000);
    g_assert_cmpuint(taken, <=, 256 << 10);
    trims_free(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trims/release", test_release);
    g_test_add_func("/trims/merged", test_merged);
    g_test_add_func("/trims/bounded", test_bounded);
    return g_test_run();
}
