/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A signal can come to any thread, also to one that is older than the end of the start and has seen
 * nothing of what the main thread did since. So this test does not synchronise its two threads, and
 * ThreadSanitizer reports a handler that reads what another thread wrote in the ordinary way. The
 * thread sends the signal to itself, because ThreadSanitizer neither delays nor loses such a
 * signal.
 */
#include "server/start/quit.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

static atomic_bool started;

static void *be_told_to_end(void *unused)
{
    while (!atomic_load_explicit(&started, memory_order_relaxed))
        sched_yield();
    g_assert_cmpint(raise(SIGTERM), ==, 0);
    return NULL;
}

static void test_other_thread(void)
{
    g_autoptr(GError) err = NULL;
    pthread_t other;
    int fd = quit_open(&err);

    g_assert_no_error(err);
    quit_install();
    g_assert_cmpint(pthread_create(&other, NULL, be_told_to_end, NULL), ==, 0);
    quit_started(0);
    atomic_store_explicit(&started, true, memory_order_relaxed);
    pthread_join(other, NULL);
    g_assert_cmpint(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0), ==, 1);
    g_assert_cmpuint(alarm(0), ==, 0); /* the start is over, and the end has no limit here */
    quit_uninstall();
    close(fd);
}

/* If the orderly end does not come, the process ends itself and says so. */
static void test_last_resort(void)
{
    if (g_test_subprocess()) {
        quit_open(NULL);
        quit_install();
        quit_started(1);
        quit_request();
        for (;;)
            pause();
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*told to end, and the main thread hangs*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/quit/a-signal-to-another-thread", test_other_thread);
    g_test_add_func("/quit/last-resort", test_last_resort);
    return g_test_run();
}
