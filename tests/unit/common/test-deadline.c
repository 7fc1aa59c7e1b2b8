/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/deadline.h"

#include <glib.h>

static void test_same_clock_as_glib(void)
{
    int64_t before = g_get_monotonic_time(), now = deadline_in(0), after = g_get_monotonic_time();

    g_assert_cmpint(before, <=, now);
    g_assert_cmpint(now, <=, after);
    g_assert_cmpint(deadline_in(5 * G_USEC_PER_SEC), >=, now + 5 * G_USEC_PER_SEC);
}

static void test_timespec(void)
{
    struct timespec t = deadline_timespec(INT64_C(5000000) * 1000000 + 999999);

    g_assert_cmpint(t.tv_sec, ==, 5000000);
    g_assert_cmpint(t.tv_nsec, ==, 999999000);
    t = deadline_timespec(1500000);
    g_assert_cmpint(t.tv_sec, ==, 1);
    g_assert_cmpint(t.tv_nsec, ==, 500000000);
}

static void test_left(void)
{
    struct timespec t = deadline_left(deadline_in(INT64_C(3600) * G_USEC_PER_SEC));

    g_assert_cmpint(t.tv_sec, >, 1800);
    g_assert_cmpint(t.tv_sec, <=, 3600);
    /* When the deadline has passed, no time is left: a negative one would be an error. */
    t = deadline_left(deadline_in(-1));
    g_assert_cmpint(t.tv_sec, ==, 0);
    g_assert_cmpint(t.tv_nsec, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/deadline/same-clock-as-glib", test_same_clock_as_glib);
    g_test_add_func("/deadline/timespec", test_timespec);
    g_test_add_func("/deadline/left", test_left);
    return g_test_run();
}
