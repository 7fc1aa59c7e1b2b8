/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/interrupt.h"
#include "client/base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int descriptor = -1;
static sigset_t handled; /* once there is a descriptor */
static int first;        /* signal that has come; 0: none */
static int seen;         /* signal that has come, and has not been taken; 0: none */

static bool is_ignored(int number)
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int interrupt_fd(GError **err)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    if (descriptor >= 0)
        return descriptor;
    sigemptyset(&handled);
    /* A signal that is ignored and blocked would be told all the same. */
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        if (!is_ignored(signals[i]))
            sigaddset(&handled, signals[i]);
    }
    descriptor = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    if (descriptor < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "signalfd: %s", g_strerror(errno));
    pthread_sigmask(SIG_BLOCK, &handled, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    return descriptor;
}

int interrupt_descriptor(void)
{
    return descriptor;
}

static int read_signal(void)
{
    struct signalfd_siginfo info;

    if (descriptor < 0 || read(descriptor, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    if (first == 0)
        first = (int)info.ssi_signo;
    /* One thread that takes a second one is enough. */
    pthread_sigmask(SIG_UNBLOCK, &handled, NULL);
    return (int)info.ssi_signo;
}

int interrupt_take(void)
{
    int number = seen;

    seen = 0;
    return number != 0 ? number : read_signal();
}

int interrupt_see(void)
{
    if (first == 0)
        seen = read_signal();
    return first;
}

/* ---- work that waits ---- */

struct work {
    int (*run)(void *opaque, GError **err);
    void *opaque;
    GError *error;
    int result;
};

static gpointer run_work(gpointer opaque)
{
    struct work *w = opaque;

    w->result = w->run(w->opaque, &w->error);
    return NULL;
}

/* The threads that the work makes have the signals blocked, as this one has before and after; only
 * meanwhile they reach it. */
int interrupt_work(int (*work)(void *opaque, GError **err), void *opaque, GError **err)
{
    struct work w = {.run = work, .opaque = opaque};
    sigset_t before;
    GThread *thread;

    if (interrupt_fd(err) < 0)
        return -1;
    thread = g_thread_try_new("work", run_work, &w, err);
    if (!thread)
        return -1;
    pthread_sigmask(SIG_UNBLOCK, &handled, &before);
    g_thread_join(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (w.error)
        g_propagate_error(err, w.error);
    return w.result;
}
