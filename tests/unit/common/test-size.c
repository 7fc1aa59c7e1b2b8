/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/size.h"

#include <errno.h>
#include <glib.h>

static void test_parse(void)
{
    static const struct {
        const char *text;
        int64_t size;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"10M", 10 << 20},
        {"10m", 10 << 20},
        {"7b", 7},
        {"3s", 1536},
        {"3S", 1536},
        {"1k", 1024},
        {"2G", INT64_C(2) << 30},
        {"2t", INT64_C(2) << 40},
        {"3P", INT64_C(3) << 50},
        {"7E", INT64_C(7) << 60},
        {"+5", 5},
        {" 5", 5},
        {"-0", 0},
        {"0010", 10},
        {"9223372036854775807", INT64_MAX},
        {"9007199254740991k", INT64_C(9007199254740991) * 1024},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        int64_t size = -7;
        g_test_message("%s", good[i].text);
        g_assert_cmpint(size_parse(good[i].text, &size), ==, 0);
        g_assert_cmpint(size, ==, good[i].size);
    }
}

static void test_parse_bad(void)
{
    static const struct {
        const char *text;
        int error;
    } bad[] = {
        {"", -EINVAL},
        {" ", -EINVAL},
        {"k", -EINVAL},
        {"-", -EINVAL},
        {"garbage", -EINVAL},
        {"0garbage", -EINVAL},
        {"0x10", -EINVAL},
        {"1.5G", -EINVAL},
        {"10MB", -EINVAL},
        {"10MiB", -EINVAL},
        {"10 M", -EINVAL},
        {"5 ", -EINVAL},
        {"--5", -EINVAL},
        {"99999999999999999999999x", -EINVAL},
        {"-1", -ERANGE},
        {"-1k", -ERANGE},
        {"8E", -ERANGE},
        {"9223372036854775808", -ERANGE},
        {"99999999999999999999999", -ERANGE},
        {"9007199254740992k", -ERANGE},
        {"18014398509481984s", -ERANGE},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        int64_t size = -7;
        g_test_message("%s", bad[i].text);
        g_assert_cmpint(size_parse(bad[i].text, &size), ==, bad[i].error);
        g_assert_cmpint(size, ==, -7);
    }
}

static void test_format(void)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0"},
        {512, "512"},
        {1023, "1023"},
        {1024, "1 KiB"},
        {4096, "4 KiB"},
        {1536, "1.5 KiB"},
        {(UINT64_C(3) << 30) / 2, "1.5 GiB"},
        {(1 << 20) - 1, "1023.9 KiB"},
        {UINT64_C(8) << 40, "8 TiB"},
        {UINT64_MAX, "15.9 EiB"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char buf[16];
        g_assert_cmpstr(size_format(cases[i].bytes, buf), ==, cases[i].text);
    }
}

static void test_digits(void)
{
    static const struct {
        uint64_t bytes;
        unsigned digits;
        const char *text;
    } cases[] = {
        {1023, 2, "1023"},
        {1024, 2, "1 KiB"},
        {1024 + 10, 2, "1 KiB"},
        {1024 + 11, 2, "1.01 KiB"},
        {1536, 2, "1.50 KiB"},
        {1280, 2, "1.25 KiB"},
        {1280, 0, "1 KiB"},
        {(1 << 20) - 1, 2, "1023.99 KiB"},
        {UINT64_MAX, 2, "15.99 EiB"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char buf[16];
        g_assert_cmpstr(size_format_digits(cases[i].bytes, cases[i].digits, buf), ==,
                        cases[i].text);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/size/parse", test_parse);
    g_test_add_func("/size/parse-bad", test_parse_bad);
    g_test_add_func("/size/format", test_format);
    g_test_add_func("/size/digits", test_digits);
    return g_test_run();
}
