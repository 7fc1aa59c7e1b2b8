/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Each case runs in a child process, and the test reads its standard error. */

static void subprocess_lines(void)
{
    log_setup(LOG_TO_STDERR, "prog", true);
    log_error("it is %d", 1);
    log_info("it is %d", 2);
    log_debug("it is %d", 3);
    errno = ENOSPC;
    log_error("%s: %m", "here");
    log_info("forged\nprog: error: \x1b[31mline");
}

static void test_lines(void)
{
    g_test_trap_subprocess("/log/lines/subprocess", 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*prog: error: it is 1\n"
                              "prog: it is 2\n"
                              "prog: debug: it is 3\n"
                              "prog: error: here: No space left on device\n"
                              "prog: forged prog: error:  ?31mline\n*");
}

static void subprocess_quiet(void)
{
    log_setup(LOG_TO_STDERR, "prog", false);
    g_assert_false(log_is_verbose());
    log_debug("unseen");
    log_setup(LOG_TO_NULL, "prog", false);
    log_error("unseen");
    log_info("unseen");
}

static void test_quiet(void)
{
    g_test_trap_subprocess("/log/quiet/subprocess", 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr_unmatched("*unseen*");
}

static void subprocess_verbose_is_always_on_stderr(void)
{
    log_setup(LOG_TO_NULL, "prog", true);
    log_error("seen");
}

static void test_verbose_is_always_on_stderr(void)
{
    g_test_trap_subprocess("/log/verbose/subprocess", 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*prog: error: seen\n*");
}

static void test_keeps_errno(void)
{
    log_setup(LOG_TO_NULL, "prog", false);
    errno = EBADMSG;
    log_error("%d", 1);
    log_info("%d", 1);
    log_debug("%d", 1);
    g_assert_cmpint(errno, ==, EBADMSG);
}

#define LONG 100000

static void subprocess_long_line(void)
{
    g_autofree char *text = g_strnfill(LONG, 'x');

    log_setup(LOG_TO_STDERR, "prog", false);
    log_error("%s.", text);
}

/* The whole line is written. */
static void test_long_line(void)
{
    g_autofree char *text = g_strnfill(LONG, 'x');
    g_autofree char *pattern = g_strdup_printf("*prog: error: %s.\n*", text);

    g_test_trap_subprocess("/log/long-line/subprocess", 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr(pattern);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/lines", test_lines);
    g_test_add_func("/log/lines/subprocess", subprocess_lines);
    g_test_add_func("/log/quiet", test_quiet);
    g_test_add_func("/log/quiet/subprocess", subprocess_quiet);
    g_test_add_func("/log/verbose", test_verbose_is_always_on_stderr);
    g_test_add_func("/log/verbose/subprocess", subprocess_verbose_is_always_on_stderr);
    g_test_add_func("/log/keeps-errno", test_keeps_errno);
    g_test_add_func("/log/long-line", test_long_line);
    g_test_add_func("/log/long-line/subprocess", subprocess_long_line);
    return g_test_run();
}
