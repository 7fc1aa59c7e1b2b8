/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes that must be durable when they are answered, and plugins that answer questions oddly. */
#include "tests/backend/harness.h"

#define GIB (UINT64_C(1) << 30)

/* A plugin that makes writes durable itself is told so with each call: also for the later pieces of
 * a long write or zero, and for writes that are made in place of a zero. */
static void test_native_fua(void)
{
    g_autofree char *buf = g_malloc0(128 << 10);

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "maximum", "65536", "can_fua", "2", NULL);
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->pwrite(h, buf, 128 << 10, 4096, BACKEND_FUA), ==, 0);
    g_autofree char *writes = harness_probe(b);
    g_assert_cmpstr(writes, ==, "pwrite 65536 4096 2\npwrite 65536 69632 2\n");
    harness_close(h);
    harness_free(b);

    b = harness_load("@v2", "maximum", "65536", "can_zero", "0", NULL);
    h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->zero(h, 128 << 10, 0, BACKEND_FUA), ==, 0);
    g_autofree char *zeroes = harness_probe(b);
    g_assert_cmpstr(zeroes, ==, "pwrite 65536 0 2\npwrite 65536 65536 2\n");
    harness_close(h);
    harness_free(b);

    b = harness_load("@big", "fua", "2", NULL);
    h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->zero(h, GIB + 4096, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->trim(h, GIB + 4096, 0, BACKEND_FUA), ==, 0);
    g_autofree char *ranges = harness_probe(b);
    g_assert_cmpstr(ranges, ==,
                    "zero 1073741824 0 2\nzero 4096 1073741824 2\n"
                    "trim 1073741824 0 2\ntrim 4096 1073741824 2\n");
    harness_close(h);
    harness_free(b);
}

/* Version 1 has no flags. Whatever such a plugin claims, one flush follows each kind of change,
 * after the last piece, and none if a piece failed. */
static void test_fua_of_version_1(void)
{
    char buf[4096] = {1};

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v1", NULL); /* claims native FUA */
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_true(h->can_fua);
    g_assert_cmpint(b->ops->pwrite(h, buf, 4096, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->trim(h, 4096, 0, BACKEND_FUA), ==, 0);
    g_autofree char *record = harness_probe(b);
    g_assert_cmpstr(record, ==,
                    "pwrite 4096 0\nflush\nzero 4096 0 may_trim=0\nflush\ntrim 4096 0\nflush\n");
    harness_close(h);
    harness_free(b);
}

/* Numbers without a meaning are taken as nbdkit takes them: for FUA by flushing, for caching by the
 * callback, for yes. */
static void test_odd_answers(void)
{
    static const char *const numbers[] = {"3", "77", "-2"};
    static const char *const questions[] = {"can_write",   "can_flush",     "can_trim",
                                            "can_zero",    "is_rotational", "can_fast_zero",
                                            "can_extents", "can_multi_conn"};

    if (!harness_have_plugins())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        struct backend *b =
            harness_load("@v2", "can_fua", numbers[i], "can_cache", numbers[i], NULL);
        for (size_t q = 0; q < G_N_ELEMENTS(questions); q++)
            g_assert_cmpint(plugin_config(b, questions[q], numbers[i], NULL), ==, 0);
        struct backend_handle *h = harness_open(b);
        g_free(harness_probe(b));
        g_assert_true(h->can_write && h->can_flush && h->can_trim && h->can_zero && h->rotational &&
                      h->can_fast_zero && h->can_extents && h->can_multi_conn && h->can_fua &&
                      h->can_cache);
        g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, 0);
        g_assert_cmpint(b->ops->cache(h, 512, 0), ==, 0);
        g_autofree char *record = harness_probe(b);
        g_assert_cmpstr(record, ==, "pwrite 1 0 0\nflush 0\ncache 512 0 0\n");
        harness_close(h);
        harness_free(b);
    }
}

static void add_tests(void)
{
    g_test_add_func("/fua/native", test_native_fua);
    g_test_add_func("/fua/version-1", test_fua_of_version_1);
    g_test_add_func("/fua/odd-answers", test_odd_answers);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
