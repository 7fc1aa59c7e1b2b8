/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/log-limit.h"

#include "common/util/log.h"

#include <errno.h>
#include <stdlib.h>

/* A case that looks at what is written runs in a child process and reads its standard error. */

#define SECOND G_USEC_PER_SEC

static void run_child(const char *path)
{
    g_test_trap_subprocess(path, 0, 0);
    g_test_trap_assert_passed();
}

static void test_first_ones_pass(void)
{
    struct log_limit l = {0};

    log_setup(LOG_TO_NULL, "prog", false);
    for (unsigned i = 0; i < 1000; i++)
        g_assert_cmpint(log_limit_pass(&l, SECOND + i), ==, i < LOG_LIMIT_LINES);
    g_assert_false(log_limit_pass(&l, SECOND + LOG_LIMIT_USEC - 1));
    for (unsigned i = 0; i < 1000; i++)
        g_assert_cmpint(log_limit_pass(&l, SECOND + LOG_LIMIT_USEC + i), ==, i < LOG_LIMIT_LINES);
    log_limit_end(&l);
}

/* Lines that come slowly are all written, also right after the machine's start (at time 0). */
static void test_slow_ones_pass(void)
{
    struct log_limit l = {0};

    for (unsigned i = 0; i < 1000; i++)
        g_assert_true(log_limit_pass(&l, i * (LOG_LIMIT_USEC / LOG_LIMIT_LINES)));
    g_assert_false(log_limits_tell(G_MAXINT64));
}

static void test_kinds_are_apart(void)
{
    struct log_limit a = {0}, b = {0};

    log_setup(LOG_TO_NULL, "prog", false);
    for (unsigned i = 0; i < 100; i++)
        log_limit_pass(&a, 0);
    g_assert_false(log_limit_pass(&a, 0));
    g_assert_true(log_limit_pass(&b, 0));
    log_limit_end(&a);
    log_limit_end(&b);
}

static void flood(struct log_limit *l, const char *what, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        errno = ENOSPC;
        log_error_limited(l, "%s: %u: %m", what, i);
        g_assert_cmpint(errno, ==, ENOSPC);
    }
}

static void subprocess_next_line_tells(void)
{
    struct log_limit l = {0};

    log_setup(LOG_TO_STDERR, "prog", false);
    flood(&l, "disk", LOG_LIMIT_LINES + 5);
    g_assert_true(log_limit_pass(&l, l.since + LOG_LIMIT_USEC));
    log_error("the next");
    log_limit_end(&l); /* it has nothing left to tell */
}

static void test_next_line_tells(void)
{
    run_child("/log-limit/next-line-tells/subprocess");
    g_test_trap_assert_stderr(
        "*prog: error: disk: 8: No space left on device\n"
        "prog: error: disk: 9: No space left on device\n"
        "prog: error: 5 more like this were left out: disk: 9: No space left on device\n"
        "prog: error: the next\n");
}

/* If no line follows, each kind tells what it left out when its own period is over. */
static void subprocess_time_tells(void)
{
    struct log_limit a = {0}, b = {0}, c = {0};

    log_setup(LOG_TO_STDERR, "prog", false);
    flood(&a, "a", LOG_LIMIT_LINES + 1);
    flood(&b, "b", LOG_LIMIT_LINES + 2);
    flood(&c, "c", LOG_LIMIT_LINES + 3);
    b.since = a.since + SECOND;
    c.since = a.since + 3 * SECOND;
    g_assert_true(log_limits_tell(a.since + LOG_LIMIT_USEC - 1));
    log_error("nothing yet");
    g_assert_true(log_limits_tell(b.since + LOG_LIMIT_USEC));
    log_error("a and b");
    log_limits_end();
    log_error("all");
    g_assert_false(log_limits_tell(G_MAXINT64));
    flood(&a, "again", 1);
}

static void test_time_tells(void)
{
    run_child("/log-limit/time-tells/subprocess");
    g_test_trap_assert_stderr("*: c: 9: No space left on device\n"
                              "prog: error: nothing yet\n"
                              "prog: error: 2 more like this were left out: b: 9: *\n"
                              "prog: error: 1 more like this were left out: a: 9: *\n"
                              "prog: error: a and b\n"
                              "prog: error: 3 more like this were left out: c: 9: *\n"
                              "prog: error: all\n"
                              "prog: error: again: 0: *\n");
}

static gboolean stop(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

/* The main loop's timer, with a period that has nearly ended. */
static void subprocess_timer_tells(void)
{
    struct log_limit l = {0};
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);

    log_setup(LOG_TO_STDERR, "prog", false);
    flood(&l, "disk", LOG_LIMIT_LINES + 7);
    l.since -= LOG_LIMIT_USEC;
    /* One second later than the timer, and at a lower priority: after it even if both are late. */
    g_timeout_add_full(G_PRIORITY_LOW, 3000, stop, loop, NULL);
    g_main_loop_run(loop);
    log_error("by now");
    flood(&l, "disk", LOG_LIMIT_LINES + 1); /* it starts again */
    l.since -= LOG_LIMIT_USEC;
    g_timeout_add_full(G_PRIORITY_LOW, 3000, stop, loop, NULL);
    g_main_loop_run(loop);
    log_error("and again");
}

static void test_timer_tells(void)
{
    run_child("/log-limit/timer-tells/subprocess");
    g_test_trap_assert_stderr("*prog: error: 7 more like this were left out: disk: 9: *\n"
                              "prog: error: by now\n"
                              "*prog: error: 1 more like this were left out: disk: 9: *\n"
                              "prog: error: and again\n");
}

static void subprocess_end_tells(void)
{
    struct log_limit l = {0};
    g_autofree char *text = g_strnfill(10000, 'x');

    log_setup(LOG_TO_STDERR, "prog", false);
    flood(&l, text, LOG_LIMIT_LINES + 3);
    log_limit_end(&l);
    log_limits_end();
}

static void test_end_tells(void)
{
    g_autofree char *text = g_strnfill(sizeof((struct log_limit *)0)->last - 1, 'x');
    g_autofree char *line =
        g_strdup_printf("*prog: error: 3 more like this were left out: %s\n", text);

    run_child("/log-limit/end-tells/subprocess");
    g_test_trap_assert_stderr(line);
}

/* Each line of many threads is written or counted. */

#define THREADS 4u
#define EACH    20000u

static struct {
    struct log_limit limit;
    unsigned passed;
} shared;

static void *many(void *unused)
{
    for (unsigned i = 0; i < EACH; i++) {
        if (log_limit_pass(&shared.limit, SECOND))
            g_atomic_int_inc(&shared.passed);
        if (i % 1000 == 0)
            log_limits_tell(SECOND);
    }
    return NULL;
}

static void test_threads(void)
{
    GThread *threads[THREADS];

    log_setup(LOG_TO_NULL, "prog", false);
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("many", many, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(shared.passed, ==, LOG_LIMIT_LINES);
    g_assert_cmpuint(shared.limit.left_out, ==, THREADS * EACH - LOG_LIMIT_LINES);
    log_limit_end(&shared.limit);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log-limit/first-ones-pass", test_first_ones_pass);
    g_test_add_func("/log-limit/slow-ones-pass", test_slow_ones_pass);
    g_test_add_func("/log-limit/kinds-are-apart", test_kinds_are_apart);
    g_test_add_func("/log-limit/next-line-tells", test_next_line_tells);
    g_test_add_func("/log-limit/next-line-tells/subprocess", subprocess_next_line_tells);
    g_test_add_func("/log-limit/time-tells", test_time_tells);
    g_test_add_func("/log-limit/time-tells/subprocess", subprocess_time_tells);
    g_test_add_func("/log-limit/timer-tells", test_timer_tells);
    g_test_add_func("/log-limit/timer-tells/subprocess", subprocess_timer_tells);
    g_test_add_func("/log-limit/end-tells", test_end_tells);
    g_test_add_func("/log-limit/end-tells/subprocess", subprocess_end_tells);
    g_test_add_func("/log-limit/threads", test_threads);
    return g_test_run();
}
