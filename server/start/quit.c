/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A handler catches the signals and writes to an eventfd. They are not blocked for a signalfd,
 * because a blocked signal stays blocked in the programs that plugins start (nbdkit's sh, eval and
 * nbd plugins do), and SIGTERM could then not stop those. The globals are here because a handler
 * has no argument.
 *
 * One wish often comes as several signals: timeout(1) sends its signal to the process and then to
 * the process's group. So a second signal counts only when the first is a second old. It ends the
 * process at once. Files that are private to the process would then be left behind: they are noted
 * in `leftovers`, and the handler removes them.
 */
#include "server/start/quit.h"

#include "common/util/error.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Seconds that a start has to end in when it is told to. A plugin's open may wait for a server that
 * never answers, even for this one. */
#define START_GRACE 2
/* Nanoseconds: a signal that comes this soon after the first one is the same wish. */
#define SAME_WISH INT64_C(1000000000)

static int quit_fd = -1;
static atomic_llong first_signal; /* nanoseconds of the monotonic clock; 0: there was none */
static atomic_bool starting;      /* a handler runs in any thread */
/* The last resort, if the orderly end itself hangs. Nanoseconds: the time that it has (0: no
 * limit), and the moment when that is over (0: nobody wishes the end). */
static atomic_llong end_limit, end_by;
static atomic_bool wished;
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_BOOL_LOCK_FREE == 2,
               "a handler takes no lock");

/* Files and folders of ours, with device and inode, because somebody may have put another file in
 * the place. The main thread fills in a slot before it sets `used`, because a handler may run at
 * any time. */
static struct leftover {
    atomic_bool used;
    dev_t device;
    ino_t inode;
    char path[PATH_MAX];
} leftovers[8];

static const int signals[] = {SIGTERM, SIGINT, SIGQUIT};

static long long now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* The time of the orderly end begins, once, when it is wished and limited. */
static void limit_end(void)
{
    long long limit = atomic_load(&end_limit), none = 0;

    if (limit > 0 && atomic_load(&wished) &&
        atomic_compare_exchange_strong(&end_by, &none, now_ns() + limit))
        alarm((unsigned)(limit / 1000000000));
}

void quit_request(void)
{
    static const uint64_t one = 1;
    int saved_errno = errno;

    /* Fails only when the counter is full: then the wish is known. */
    if (write(quit_fd, &one, sizeof one) < 0)
        errno = saved_errno;
    atomic_store(&wished, true);
    limit_end();
}

static bool is_at(const struct leftover *l)
{
    struct stat st;

    return lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode;
}

void quit_leftover(const char *path)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(leftovers); i++) {
        struct leftover *l = &leftovers[i];
        struct stat st;

        if (atomic_load(&l->used))
            continue;
        if (strlen(path) < sizeof l->path && lstat(path, &st) == 0) {
            strcpy(l->path, path);
            l->device = st.st_dev;
            l->inode = st.st_ino;
            atomic_store(&l->used, true);
        }
        return;
    }
}

void quit_no_leftover(const char *path)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(leftovers); i++) {
        if (atomic_load(&leftovers[i].used) && strcmp(leftovers[i].path, path) == 0)
            atomic_store(&leftovers[i].used, false);
    }
}

/* May be called from a handler. A folder was noted before what is in it. */
static void G_GNUC_NORETURN end_at_once(void)
{
    for (unsigned i = G_N_ELEMENTS(leftovers); i-- > 0;) {
        const struct leftover *l = &leftovers[i];

        if (atomic_load(&l->used) && is_at(l) && unlink(l->path) < 0)
            rmdir(l->path);
    }
    _exit(EXIT_FAILURE);
}

void quit_now(void)
{
    end_at_once();
}

static void on_signal(int number)
{
    long long at = now_ns(), first = 0;
    int saved_errno = errno;

    if (!atomic_compare_exchange_strong(&first_signal, &first, at)) {
        if (at - first >= SAME_WISH)
            end_at_once();
        errno = saved_errno;
        return;
    }
    quit_request();
    if (atomic_load(&starting))
        alarm(START_GRACE);
}

static void on_alarm(int number)
{
    static const char start_text[] =
        "nbdfleece: error: told to end, and the start does not come to its end: a plugin hangs\n";
    static const char end_text[] =
        "nbdfleece: error: told to end, and the main thread hangs: ended at once\n";
    long long by = atomic_load(&end_by);

    if (atomic_load(&starting)) {
        (void)!write(STDERR_FILENO, start_text, sizeof start_text - 1);
        end_at_once();
    }
    if (by == 0) /* a signal met the end of the start */
        return;
    if (now_ns() < by) { /* the same, and its alarm replaced the one for `by` */
        alarm((unsigned)((by - now_ns()) / 1000000000 + 1));
        return;
    }
    (void)!write(STDERR_FILENO, end_text, sizeof end_text - 1);
    end_at_once();
}

void quit_started(unsigned limit)
{
    atomic_store(&starting, false);
    alarm(0);
    atomic_store(&end_limit, limit * 1000000000LL);
    limit_end();
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

    atomic_store(&starting, true);
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
