/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signals are caught by a handler that writes to an eventfd, not blocked for a signalfd: a blocked
 * signal stays blocked in the programs that plugins start (nbdkit's sh, eval and nbd plugins do),
 * and those could then not be stopped by SIGTERM. A handler is the reason for the two globals.
 */
#include "config.h"

#include "server/quit.h"

#include "common/error.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A start that was told to end may take so long, seconds, to see it: a plugin's open may wait for a
 * server that never answers, be it this one. */
#define START_GRACE 2

static int quit_fd = -1;
static volatile sig_atomic_t signalled;
static volatile sig_atomic_t starting;

static const int signals[] = {SIGTERM, SIGINT, SIGQUIT};

void quit_request(void)
{
    static const uint64_t one = 1;
    int saved_errno = errno;

    /* Fails only when the counter is full: then the wish is known. */
    if (write(quit_fd, &one, sizeof one) < 0)
        errno = saved_errno;
}

static void on_signal(int number)
{
    if (signalled)
        _exit(EXIT_FAILURE);
    signalled = 1;
    quit_request();
    if (starting)
        alarm(START_GRACE);
}

static void on_alarm(int number)
{
    static const char text[] = "nbdfleece: error: told to end, and the start does not come to its "
                               "end: a plugin hangs\n";

    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(EXIT_FAILURE);
}

void quit_started(void)
{
    starting = 0;
    alarm(0);
}

int quit_open(GError **err)
{
    quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (quit_fd < 0)
        return fail_errno(err, errno, "eventfd");
    return quit_fd;
}

void quit_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    starting = 1;
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &action, NULL);
    signal(SIGALRM, on_alarm);
    signal(SIGPIPE, SIG_IGN);
    /* A parent may have had it ignored; then nobody here could wait for a child. */
    signal(SIGCHLD, SIG_DFL);
}

void quit_uninstall(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        signal(signals[i], SIG_DFL);
    signal(SIGALRM, SIG_DFL);
}
