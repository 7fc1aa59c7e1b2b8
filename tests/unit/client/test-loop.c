/* SPDX-License-Identifier: BSD-3-Clause */
/* The loop of a command that copies, over copies that do as they are told. */
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/pull/loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- copies that stand in for real ones ---- */

struct copy {
    int fd;
    bool fails; /* it ends with an error */
    bool hangs; /* it does not end before it is cancelled */
    bool cancelled;
};

static struct copy *copy_make(bool fails, bool hangs)
{
    struct copy *c = g_new0(struct copy, 1);

    *c = (struct copy){.fd = eventfd(hangs ? 0 : 1, EFD_CLOEXEC), .fails = fails, .hangs = hangs};
    return c;
}

int copy_fd(const struct copy *c)
{
    return c->fd;
}

void copy_get_progress(const struct copy *c, struct copy_progress *p)
{
    *p = (struct copy_progress){.position = 1, .read = 1};
}

void copy_cancel(struct copy *c)
{
    g_assert_false(c->cancelled);
    c->cancelled = true;
    g_assert_cmpint(eventfd_write(c->fd, 1), ==, 0);
}

int copy_end(struct copy *c, struct copy_progress *p, GError **err)
{
    bool cancelled = c->cancelled, fails = c->fails;

    g_assert_true(cancelled || !c->hangs); /* else this would hang */
    close(c->fd);
    g_free(c);
    *p = (struct copy_progress){.position = 2, .read = 2};
    if (fails)
        return client_fail(err, CLIENT_ERROR_FAILED, "no space");
    if (cancelled)
        return client_fail(err, CLIENT_ERROR_FAILED, "cancelled");
    return 0;
}

/* ---- the caller ---- */

struct caller {
    unsigned left;    /* copies that are to be started */
    unsigned failing; /* from which number on, counted down, they fail: see next() */
    bool hanging;     /* those that do not fail hang */
    bool next_fails;  /* after all */
    bool goes_on;     /* `ended` forgives */
    int signal;       /* is raised once the last copy has been started */
    int late_signal;  /* is raised when a copy has ended */
    int tick_fd;      /* becomes readable then */
    bool tick_fails;
    unsigned running, most, started, ended, failed, ticks;
};

static int next(void *opaque, struct loop_job *job, GError **err)
{
    struct caller *c = opaque;

    if (c->left == 0 && c->next_fails)
        return client_fail(err, CLIENT_ERROR_FAILED, "no other");
    if (c->left == 0)
        return 0;
    c->left--;
    c->started++;
    c->running++;
    c->most = MAX(c->most, c->running);
    *job = (struct loop_job){
        .name = "disk",
        .copy = copy_make(c->left < c->failing, c->hanging && c->left >= c->failing),
        .size = 10,
        .opaque = GUINT_TO_POINTER(c->left),
    };
    if (c->left == 0 && c->signal != 0)
        g_assert_cmpint(kill(getpid(), c->signal), ==, 0);
    if (c->left == 0 && c->tick_fd >= 0)
        g_assert_cmpint(eventfd_write(c->tick_fd, 1), ==, 0);
    return 1;
}

static int ended(void *opaque, const struct loop_job *job, const struct copy_progress *p,
                 const GError *why, GError **err)
{
    struct caller *c = opaque;

    g_assert_cmpuint(p->read, ==, 2);
    c->running--;
    c->ended++;
    if (c->late_signal != 0)
        g_assert_cmpint(kill(getpid(), c->late_signal), ==, 0);
    if (!why)
        return 0;
    c->failed++;
    return c->goes_on ? 0 : client_fail(err, CLIENT_ERROR_FAILED, "disk: %s", why->message);
}

static int tick(void *opaque, GError **err)
{
    struct caller *c = opaque;
    eventfd_t value;

    c->ticks++;
    if (c->tick_fd >= 0)
        g_assert_cmpint(eventfd_read(c->tick_fd, &value), ==, 0);
    return c->tick_fails ? client_fail(err, CLIENT_ERROR_FAILED, "the server has gone") : 0;
}

static const struct loop_ops plain_ops = {.next = next, .ended = ended, .fd = -1};

/* Run; all that was started has ended. The error's message, or NULL. */
static char *run(struct caller *c, const struct loop_ops *ops, unsigned at_once)
{
    struct progress *p = progress_new(false);
    GError *error = NULL;
    char *message;
    int result = loop_run(ops, c, at_once, p, &error);

    progress_free(p);
    g_assert_cmpint(result, ==, error ? -1 : 0);
    if (ops->ended) {
        g_assert_cmpuint(c->running, ==, 0);
        g_assert_cmpuint(c->ended, ==, c->started);
        g_assert_cmpuint(c->most, <=, at_once);
    }
    message = error ? g_strdup(error->message) : NULL;
    g_clear_error(&error);
    return message;
}

static void test_all_end(void)
{
    for (unsigned at_once = 1; at_once < 5; at_once++) {
        struct caller c = {.left = 12, .tick_fd = -1};
        g_autofree char *message = run(&c, &plain_ops, at_once);

        g_assert_null(message);
        g_assert_cmpuint(c.ended, ==, 12);
        g_assert_cmpuint(c.most, ==, at_once);
    }
}

static void test_nothing(void)
{
    struct caller c = {.tick_fd = -1};
    g_autofree char *message = run(&c, &plain_ops, 3);

    g_assert_null(message);
}

/* One that fails cancels those that would go on for ever. */
static void test_failure(void)
{
    struct caller c = {.left = 3, .failing = 1, .hanging = true, .tick_fd = -1};
    g_autofree char *message = run(&c, &plain_ops, 4);

    g_assert_cmpstr(message, ==, "disk: no space");
    g_assert_cmpuint(c.failed, ==, 3);
}

/* After a failure no other is started. */
static void test_failure_is_the_end(void)
{
    struct caller c = {.left = 10, .failing = 10, .tick_fd = -1};
    g_autofree char *message = run(&c, &plain_ops, 1);

    g_assert_cmpstr(message, ==, "disk: no space");
    g_assert_cmpuint(c.started, ==, 1);
}

static void test_goes_on(void)
{
    struct caller c = {.left = 10, .failing = 4, .goes_on = true, .tick_fd = -1};
    g_autofree char *message = run(&c, &plain_ops, 2);

    g_assert_null(message);
    g_assert_cmpuint(c.ended, ==, 10);
    g_assert_cmpuint(c.failed, ==, 4);
}

static void test_without_ended(void)
{
    static const struct loop_ops ops = {.next = next, .fd = -1};
    struct caller c = {.left = 3, .failing = 1, .hanging = true, .tick_fd = -1};
    g_autofree char *message = run(&c, &ops, 4);

    g_assert_cmpstr(message, ==, "no space");
}

static void test_next_fails(void)
{
    struct caller c = {.left = 2, .hanging = true, .next_fails = true, .tick_fd = -1};
    g_autofree char *message = run(&c, &plain_ops, 4);

    g_assert_cmpstr(message, ==, "no other");
    g_assert_cmpuint(c.failed, ==, 2);
}

/* As in a new process: a second signal would end this one. */
static void block_again(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void test_signal(void)
{
    static const struct {
        int number;
        const char *message;
    } cases[] = {{SIGINT, "interrupted by SIGINT"},
                 {SIGTERM, "interrupted by SIGTERM"},
                 {SIGHUP, "interrupted by SIGHUP"}};

    g_assert_cmpint(interrupt_fd(NULL), >=, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct caller c = {
            .left = 3, .hanging = true, .goes_on = true, .signal = cases[i].number, .tick_fd = -1};
        g_autofree char *message = run(&c, &plain_ops, 8);

        g_assert_cmpstr(message, ==, cases[i].message);
        g_assert_cmpuint(c.failed, ==, 3);
        block_again();
    }
}

/* A signal that comes when all copies are done, too: nobody may take it for a success. */
static void test_late_signal(void)
{
    struct caller c = {.left = 1, .late_signal = SIGTERM, .tick_fd = -1};
    g_autofree char *message = NULL;

    g_assert_cmpint(interrupt_fd(NULL), >=, 0);
    message = run(&c, &plain_ops, 1);
    g_assert_cmpstr(message, ==, "interrupted by SIGTERM");
    g_assert_cmpuint(c.failed, ==, 0);
}

static void test_second_interrupt(void)
{
    if (g_test_subprocess()) {
        g_assert_cmpint(interrupt_fd(NULL), >=, 0);
        kill(getpid(), SIGINT);
        g_assert_cmpint(interrupt_take(), ==, SIGINT);
        g_assert_cmpint(interrupt_take(), ==, 0);
        kill(getpid(), SIGINT);
        g_assert_not_reached();
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr_unmatched("*ERROR*");
}

/* nohup and scripts have signals ignored. */
static void test_ignored_signal(void)
{
    if (g_test_subprocess()) {
        signal(SIGHUP, SIG_IGN);
        g_assert_cmpint(interrupt_fd(NULL), >=, 0);
        kill(getpid(), SIGHUP);
        g_assert_cmpint(interrupt_take(), ==, 0);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
}

static void test_tick(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct loop_ops ops = {.next = next, .ended = ended, .tick = tick, .fd = fd};
    struct caller c = {.left = 2, .hanging = true, .tick_fd = fd, .tick_fails = true};
    g_autofree char *message = run(&c, &ops, 2);

    g_assert_cmpstr(message, ==, "the server has gone");
    g_assert_cmpuint(c.ticks, ==, 1);
    close(fd);
}

/* Without a descriptor it is called by the clock. */
static void test_tick_by_time(void)
{
    struct loop_ops ops = {.next = next, .ended = ended, .tick = tick, .fd = -1};
    struct caller c = {.left = 2, .hanging = true, .tick_fd = -1, .tick_fails = true};
    g_autofree char *message = run(&c, &ops, 2);

    g_assert_cmpstr(message, ==, "the server has gone");
}

int main(int argc, char **argv)
{
    /* A shell that runs the tests in the background has it ignored. */
    signal(SIGINT, SIG_DFL);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/loop/all-end", test_all_end);
    g_test_add_func("/loop/nothing", test_nothing);
    g_test_add_func("/loop/failure", test_failure);
    g_test_add_func("/loop/failure-is-the-end", test_failure_is_the_end);
    g_test_add_func("/loop/goes-on", test_goes_on);
    g_test_add_func("/loop/without-ended", test_without_ended);
    g_test_add_func("/loop/next-fails", test_next_fails);
    g_test_add_func("/loop/signal", test_signal);
    g_test_add_func("/loop/late-signal", test_late_signal);
    g_test_add_func("/loop/second-interrupt", test_second_interrupt);
    g_test_add_func("/loop/ignored-signal", test_ignored_signal);
    g_test_add_func("/loop/tick", test_tick);
    g_test_add_func("/loop/tick-by-time", test_tick_by_time);
    return g_test_run();
}
