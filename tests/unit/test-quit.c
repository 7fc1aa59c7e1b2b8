/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A signal comes to any thread, also to one that was there before the start was over and has seen
 * nothing of what the main thread did since. So nothing orders the two threads here but the signal,
 * and ThreadSanitizer sees a handler that reads what is not written for it.
 */
#include "server/quit.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static void *wait_for_signals(void *unused)
{
    struct timespec long_enough = {.tv_sec = 600};

    nanosleep(&long_enough, NULL); /* a signal ends it */
    return NULL;
}

static void test_other_thread(void)
{
    g_autoptr(GError) err = NULL;
    pthread_t other;
    int fd = quit_open(&err);

    g_assert_no_error(err);
    quit_install();
    g_assert_cmpint(pthread_create(&other, NULL, wait_for_signals, NULL), ==, 0);
    quit_started();
    g_assert_cmpint(pthread_kill(other, SIGTERM), ==, 0);
    g_assert_cmpint(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 60 * 1000), ==, 1);
    g_assert_cmpuint(alarm(0), ==, 0); /* only a start has a time limit */
    quit_uninstall();
    pthread_cancel(other); /* the signal may have come before its wait */
    pthread_join(other, NULL);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/quit/a-signal-to-another-thread", test_other_thread);
    return g_test_run();
}
