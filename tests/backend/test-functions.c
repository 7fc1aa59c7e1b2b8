/* SPDX-License-Identifier: BSD-3-Clause */
/* The functions that plugins call, called as a plugin would. */
#include "tests/backend/harness.h"

#include "common/util/log.h"
#include "server/backend/plugin-private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- numbers ---- */

#define GOOD(name, type, text, expected)                                                           \
    G_STMT_START                                                                                   \
    {                                                                                              \
        type value_ = 77;                                                                          \
        g_assert_cmpint(nbdkit_parse_##name("n", (text), &value_), ==, 0);                         \
        g_assert_true(value_ == (expected));                                                       \
        g_assert_cmpint(nbdkit_parse_##name("n", (text), NULL), ==, 0);                            \
    }                                                                                              \
    G_STMT_END

#define BAD(name, type, text)                                                                      \
    G_STMT_START                                                                                   \
    {                                                                                              \
        type value_ = 77;                                                                          \
        g_assert_cmpint(nbdkit_parse_##name("n", (text), &value_), ==, -1);                        \
        g_assert_true(value_ == 77);                                                               \
    }                                                                                              \
    G_STMT_END

static void test_parse_numbers(void)
{
    harness_log_begin();
    GOOD(int, int, "0", 0);
    GOOD(int, int, "-1", -1);
    GOOD(int, int, "0x7fffffff", INT_MAX);
    GOOD(int, int, "-2147483648", INT_MIN);
    GOOD(int, int, "010", 8);
    GOOD(int, int, "+5", 5);
    GOOD(int, int, " 5", 5);
    BAD(int, int, "2147483648");
    BAD(int, int, "-2147483649");
    BAD(int, int, "");
    BAD(int, int, " ");
    BAD(int, int, "x");
    BAD(int, int, "1x");
    BAD(int, int, "1 ");
    BAD(int, int, "1.5");
    BAD(int, int, "08");
    GOOD(int8_t, int8_t, "-128", -128);
    BAD(int8_t, int8_t, "128");
    GOOD(int16_t, int16_t, "-32768", -32768);
    BAD(int16_t, int16_t, "0x8000");
    GOOD(int32_t, int32_t, "2147483647", INT32_MAX);
    BAD(int32_t, int32_t, "99999999999");
    GOOD(int64_t, int64_t, "-9223372036854775808", INT64_MIN);
    BAD(int64_t, int64_t, "9223372036854775808");
    GOOD(unsigned, unsigned, "4294967295", UINT_MAX);
    BAD(unsigned, unsigned, "4294967296");
    BAD(unsigned, unsigned, "-0");
    BAD(unsigned, unsigned, " -1");
    GOOD(uint8_t, uint8_t, "0xff", 255);
    BAD(uint8_t, uint8_t, "256");
    GOOD(uint16_t, uint16_t, "65535", 65535);
    BAD(uint16_t, uint16_t, "65536");
    GOOD(uint32_t, uint32_t, "0xffffffff", UINT32_MAX);
    BAD(uint32_t, uint32_t, "-1");
    GOOD(uint64_t, uint64_t, "18446744073709551615", UINT64_MAX);
    BAD(uint64_t, uint64_t, "18446744073709551616");
    BAD(uint64_t, uint64_t, "-1");
    g_autofree char *log = harness_log_end();
    assert_contains(log, "n: could not parse number: \"1x\": trailing garbage");
    assert_contains(log, "n: negative numbers are not allowed");
}

static void test_parse_words(void)
{
    static const char *const no[] = {"0", "false", "f", "no", "n", "off", "OFF", "False"};
    static const char *const yes[] = {"1", "true", "t", "yes", "y", "on", "ON", "True"};
    static const char *const neither[] = {"", "2", "10", "tru", "yes ", "of"};

    harness_log_begin();
    for (size_t i = 0; i < G_N_ELEMENTS(no); i++) {
        g_assert_cmpint(nbdkit_parse_bool(no[i]), ==, 0);
        g_assert_cmpint(nbdkit_parse_bool(yes[i]), ==, 1);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(neither); i++)
        g_assert_cmpint(nbdkit_parse_bool(neither[i]), ==, -1);
    g_assert_cmpint(nbdkit_parse_size("3M"), ==, 3 << 20);
    g_assert_cmpint(nbdkit_parse_size("8E"), ==, -1);
    g_assert_cmpint(nbdkit_parse_size("3MB"), ==, -1);
    g_autofree char *log = harness_log_end();
    assert_contains(log, "\"8E\": negative or too large");
}

static void test_parse_delay(void)
{
    static const struct {
        const char *text;
        unsigned sec, nsec;
    } good[] = {
        {"0", 0, 0},
        {"1", 1, 0},
        {"1.5", 1, 500000000},
        {"2s", 2, 0},
        {"120ms", 0, 120000000},
        {"1.2ms", 0, 1200000},
        {"7us", 0, 7000},
        {"7\xce\xbcs", 0, 7000},
        {"3ns", 0, 3},
        {"2500ms", 2, 500000000},
    };
    static const char *const bad[] = {"",      "s",   "-1",  "1m",   "1 s",
                                      "1e999", "nan", "inf", "0x10", "1s s"};
    unsigned sec, nsec;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_cmpint(nbdkit_parse_delay("d", good[i].text, &sec, &nsec), ==, 0);
        g_assert_cmpuint(sec, ==, good[i].sec);
        g_assert_cmpuint(nsec, ==, good[i].nsec);
    }
    harness_log_begin();
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        sec = nsec = 77;
        g_assert_cmpint(nbdkit_parse_delay("d", bad[i], &sec, &nsec), ==, -1);
        g_assert_cmpuint(sec + nsec, ==, 154);
    }
    g_free(harness_log_end());
}

static void test_parse_probability(void)
{
    static const struct {
        const char *text;
        double value;
    } good[] = {
        {"0", 0},      {"1", 1},   {"0.25", 0.25}, {"25%", 0.25},   {"1:4", 0.25},
        {"1/4", 0.25}, {"0:0", 0}, {"2", 2},       {"1e-3", 0.001}, {"0/5", 0},
    };
    static const char *const bad[] = {"",    "%",   "-1",  "1:",    ":1", "1:0",
                                      "nan", "inf", "1%%", "1/2/3", "0x1"};
    double value;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_cmpint(nbdkit_parse_probability("p", good[i].text, &value), ==, 0);
        g_assert_true(fabs(value - good[i].value) < 1e-12);
    }
    harness_log_begin();
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        value = 77;
        g_assert_cmpint(nbdkit_parse_probability("p", bad[i], &value), ==, -1);
        g_assert_true(value == 77);
    }
    g_free(harness_log_end());
}

/* ---- text ---- */

static void test_log(void)
{
    harness_log_begin();
    errno = ENOSPC;
    nbdkit_error("cannot: %m (%d)", 5);
    g_assert_cmpint(errno, ==, ENOSPC);
    nbdkit_debug("nobody sees this");
    g_assert_cmpint(errno, ==, ENOSPC);
    g_autofree char *log = harness_log_end();
    assert_contains(log, "cannot: No space left on device (5)");
    g_assert_null(strstr(log, "nobody"));

    log_setup(LOG_TO_STDERR, "test", true);
    harness_log_begin();
    errno = EPERM;
    nbdkit_debug("seen: %m");
    nbdkit_debug_hexdump("0123456789abcdef01\n", 19, "data: ", 0x14);
    g_assert_cmpint(errno, ==, EPERM);
    g_autofree char *second = harness_log_end();
    log_setup(LOG_TO_STDERR, "test", false);
    assert_contains(second, "seen: Operation not permitted");
    assert_contains(second, "data: 00000010:             30 31 32 33  34 35 36 37 38 39 61 62"
                            "  |    0123456789ab|\n");
    assert_contains(second, "data: 00000020: 63 64 65 66 30 31 0a");
}

static void test_paths(void)
{
    g_autofree char *file = harness_file("path", 0, NULL, 0);
    g_autofree char *link = g_build_filename(harness_dir(), "link", NULL);
    g_autofree char *cwd = g_get_current_dir();
    g_autofree char *joined = g_build_filename(cwd, "some", "file", NULL);

    g_assert_cmpint(symlink("path", link), ==, 0);
    char *real = nbdkit_realpath(link), *expected = realpath(file, NULL);
    g_assert_cmpstr(real, ==, expected);
    free(real);
    free(expected);
    char *absolute = nbdkit_absolute_path("some/file");
    g_assert_cmpstr(absolute, ==, joined);
    free(absolute);
    absolute = nbdkit_absolute_path("/x/../y");
    g_assert_cmpstr(absolute, ==, "/x/../y");
    free(absolute);
    harness_log_begin();
    g_assert_null(nbdkit_realpath("/nonexistent/file"));
    g_assert_null(nbdkit_realpath(""));
    g_assert_null(nbdkit_absolute_path(NULL));
    g_autofree char *log = harness_log_end();
    assert_contains(log, "/nonexistent/file: No such file or directory");
}

static void test_intern(void)
{
    char text[] = "abcdef";
    const char *whole = nbdkit_strdup_intern(text), *part = nbdkit_strndup_intern(text, 3);
    const char *made = nbdkit_printf_intern("%s-%d", text, 7);

    text[0] = 'X';
    g_assert_cmpstr(whole, ==, "abcdef");
    g_assert_cmpstr(part, ==, "abc");
    g_assert_cmpstr(made, ==, "abcdef-7");
    g_assert_cmpstr(nbdkit_strndup_intern("ab", 100), ==, "ab");
}

/* ---- passwords ---- */

static void assert_password(const char *value, const char *expected)
{
    char *password = NULL;

    g_assert_cmpint(nbdkit_read_password(value, &password), ==, expected ? 0 : -1);
    g_assert_cmpstr(password, ==, expected);
    free(password);
}

static void test_password(void)
{
    g_autofree char *file = harness_file("password", 9, "geheim\n2\n", 9);
    g_autofree char *empty = harness_file("empty", 0, NULL, 0);
    g_autofree char *from_file = g_strconcat("+", file, NULL);
    g_autofree char *from_empty = g_strconcat("+", empty, NULL);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    g_autofree char *from_fd = g_strdup_printf("-%d", fd);

    assert_password("literal", "literal");
    assert_password("", "");
    assert_password(from_file, "geheim");
    assert_password(from_empty, "");
    assert_password(from_fd, "geheim");
    g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1); /* closed */
    harness_log_begin();
    assert_password("+/nonexistent", NULL);
    assert_password("-0", NULL);
    assert_password("-2", NULL);
    assert_password("-x", NULL);
    assert_password("-999", NULL);
    assert_password("-", NULL); /* no plugin is being configured: none may read stdin */
    g_autofree char *log = harness_log_end();
    assert_contains(log, "/nonexistent");
    assert_contains(log, "file descriptor 2");
    assert_contains(log, "stdin is not available");
    g_assert_null(strstr(log, "geheim"));
}

/* ---- the rest ---- */

static void test_exports(void)
{
    struct nbdkit_exports *e = nbdkit_exports_new();
    g_autofree char *longest = g_strnfill(4096, 'x'), *too_long = g_strnfill(4097, 'x');

    g_assert_cmpint(nbdkit_add_export(e, "", NULL), ==, 0);
    g_assert_cmpint(nbdkit_add_export(e, longest, longest), ==, 0);
    g_assert_cmpint(nbdkit_use_default_export(e), ==, 0);
    harness_log_begin();
    g_assert_cmpint(nbdkit_add_export(e, too_long, NULL), ==, -1);
    g_assert_cmpint(nbdkit_add_export(e, "x", too_long), ==, -1);
    for (int i = 2; i < 10000; i++)
        g_assert_cmpint(nbdkit_add_export(e, "x", "y"), ==, 0);
    g_assert_cmpint(nbdkit_add_export(e, "x", NULL), ==, -1);
    g_assert_cmpint(errno, ==, EINVAL);
    g_free(harness_log_end());
    nbdkit_exports_free(e);
    nbdkit_exports_free(NULL);
    nbdkit_extents_free(NULL);
}

/* A full list ends where it is full: nothing that comes later may be appended. */
static void test_full_extents(void)
{
    struct nbdkit_extents *list = nbdkit_extents_new(0, UINT32_MAX);
    struct extents out = EXTENTS_INIT;

    for (uint64_t i = 0; i < EXTENTS_MAX + 10; i++)
        g_assert_cmpint(nbdkit_add_extent(list, i * 512, 512, i % 2), ==, 0);
    g_assert_cmpint(nbdkit_extents_take(list, 1, &out), ==, 0);
    g_assert_cmpuint(out.count, ==, EXTENTS_MAX);
    g_assert_cmpuint(out.total, ==, UINT64_C(512) * EXTENTS_MAX);
    g_assert_cmpuint(out.list[EXTENTS_MAX - 1].length, ==, 512);
    extents_free(&out);
    nbdkit_extents_free(list);
}

/* From a thread that works for nobody. */
static void test_outside(void)
{
    harness_log_begin();
    g_assert_null(nbdkit_export_name());
    g_assert_cmpint(nbdkit_is_tls(), ==, -1);
    g_assert_cmpint(nbdkit_peer_name(NULL, NULL), ==, -1);
    g_assert_cmpint(nbdkit_peer_pid(), ==, -1);
    g_assert_cmpint(nbdkit_peer_uid(), ==, -1);
    g_assert_cmpint(nbdkit_peer_gid(), ==, -1);
    g_assert_null(nbdkit_peer_security_context());
    g_assert_false(nbdkit_stdio_safe());
    nbdkit_set_error(5);
    nbdkit_shutdown();
    nbdkit_disconnect(1);
    g_assert_cmpint(nbdkit_nanosleep(UINT_MAX, 0), ==, -1);
    g_assert_cmpint(nbdkit_nanosleep(0, 1000), ==, 0);
    g_free(harness_log_end());
    char *dn = nbdkit_peer_tls_dn();
    g_assert_cmpstr(dn, ==, "");
    free(dn);
    dn = nbdkit_peer_tls_issuer_dn();
    g_assert_cmpstr(dn, ==, "");
    free(dn);
}

static void add_tests(void)
{
    g_test_add_func("/functions/parse/numbers", test_parse_numbers);
    g_test_add_func("/functions/parse/words", test_parse_words);
    g_test_add_func("/functions/parse/delay", test_parse_delay);
    g_test_add_func("/functions/parse/probability", test_parse_probability);
    g_test_add_func("/functions/log", test_log);
    g_test_add_func("/functions/paths", test_paths);
    g_test_add_func("/functions/intern", test_intern);
    g_test_add_func("/functions/password", test_password);
    g_test_add_func("/functions/exports", test_exports);
    g_test_add_func("/functions/full-extents", test_full_extents);
    g_test_add_func("/functions/outside", test_outside);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
