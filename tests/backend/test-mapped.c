/* SPDX-License-Identifier: BSD-3-Clause */
/* What a plugin tells by nbdfleece_plugin_map: what can be acted on is passed on, nothing else is. */
#include "plugins/nbdfleece-plugin.h"
#include "tests/backend/harness.h"

#include <string.h>

#define PIECE (128u << 10)
#define SIZE  (64u * PIECE)

static struct backend_segment ask(struct backend_handle *h, uint64_t offset, uint64_t length,
                                  bool writing)
{
    struct backend_segment s;

    memset(&s, 0x55, sizeof s);
    h->map(h, offset, length, writing, &s);
    return s;
}

static void test_told(void)
{
    if (!harness_have_plugins())
        return;
    g_autofree char *path = harness_file("disk", SIZE, NULL, 0);
    struct backend *b = harness_load("@mapped", "path", path, NULL);
    struct backend_handle *h = harness_open(b);
    struct backend_segment s;

    g_assert_cmpint(h->fd, ==, -1);
    for (int writing = 0; writing < 2; writing++) {
        s = ask(h, 5000, 3 * PIECE, writing);
        g_assert_cmpint(s.place, ==, BACKEND_IN_FILE);
        g_assert_cmpint(s.fd, >=, 0);
        g_assert_cmpuint(s.host, ==, 63 * PIECE + 5000);
        g_assert_cmpuint(s.length, ==, PIECE - 5000);
        s = ask(h, 2 * PIECE, PIECE, writing);
        g_assert_cmpint(s.place, ==, writing ? BACKEND_ANYWHERE : BACKEND_IN_FILE);
        g_assert_cmpuint(s.length, ==, PIECE);
        s = ask(h, 3 * PIECE, 2 * PIECE, writing);
        g_assert_cmpint(s.place, ==, writing ? BACKEND_ANYWHERE : BACKEND_ZEROES);
        g_assert_cmpuint(s.length, ==, writing ? 2 * PIECE : PIECE);
    }
    harness_close(h);
    harness_free(b);
}

/* Is what the plugin says, with `key` set to `value`, taken for nothing? */
static void assert_ignored(const char *path, const char *key, const char *value, bool writing)
{
    struct backend *b = harness_load("@mapped", "path", path, key, value, NULL);
    struct backend_handle *h = harness_open(b);
    struct backend_segment s = ask(h, 4096, 8192, writing);

    g_test_message("%s=%s writing=%d", key, value, writing);
    g_assert_cmpint(s.place, ==, BACKEND_ANYWHERE);
    g_assert_cmpuint(s.length, ==, 8192);
    harness_close(h);
    harness_free(b);
}

static void test_lies(void)
{
    static const char *const lies[][2] = {
        {"answer", "-1"},
        {"answer", "1"},
        {"length", "0"},
        {"length", "8193"},
        {"length", "-1"},
        {"host", "-1"},
        {"host", "9223372036854775807"},
        {"fd", "-1"},
        {"fd", "-7"},
        {"place", "-1"},
        {"place", "3"},
    };

    if (!harness_have_plugins())
        return;
    g_autofree char *path = harness_file("disk", SIZE, NULL, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++)
        for (int writing = 0; writing < 2; writing++)
            assert_ignored(path, lies[i][0], lies[i][1], writing);
    g_autofree char *zero = g_strdup_printf("%d", NBDFLEECE_ZERO);
    assert_ignored(path, "place", zero, true);
}

/* It is not asked where calls may not run side by side. */
static void test_not_parallel(void)
{
    if (!harness_have_plugins())
        return;
    g_autofree char *path = harness_file("disk", SIZE, NULL, 0);
    struct backend *b = harness_load("@mapped", "path", path, "model", "2", NULL);
    struct backend_handle *h = harness_open(b);

    g_assert_null(h->map);
    harness_close(h);
    harness_free(b);
}

static void add_tests(void)
{
    g_test_add_func("/mapped/told", test_told);
    g_test_add_func("/mapped/lies", test_lies);
    g_test_add_func("/mapped/not-parallel", test_not_parallel);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
