/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/interrupt.h"
#include "client/base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int descriptor = -1;

static bool is_ignored(int number)
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int interrupt_fd(GError **err)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;

    if (descriptor >= 0)
        return descriptor;
    sigemptyset(&set);
    /* A signal that is ignored and blocked would be told all the same. */
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        if (!is_ignored(signals[i]))
            sigaddset(&set, signals[i]);
    }
    descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (descriptor < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "signalfd: %s", g_strerror(errno));
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    return descriptor;
}

int interrupt_take(void)
{
    struct signalfd_siginfo info;
    sigset_t set;

    if (descriptor < 0 || read(descriptor, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    /* One thread that takes it is enough. */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return (int)info.ssi_signo;
}
