/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the freeze hook for the server, and outlives it: whatever becomes of the server between
 * `freeze` and `thaw`, the guests are thawed. This process runs both, so that no `freeze` of a server
 * that is gone can still be under way when `thaw` runs.
 *
 * The server starts it in a session of its own. It ignores the signals that end the server and its
 * group, e.g. those of a service manager, and ends by itself.
 */
#include "server/hooks/freeze-guard.h"

#include "common/base/deadline.h"
#include "server/hooks/hook-process.h"
#include "server/hooks/hook-status.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

/* Seconds in which a `thaw` that fails is tried again and again, and the longest pause between. */
#define TRY_SECONDS   3600
#define PAUSE_SECONDS 30

struct guard {
    unsigned seconds;
    char **argv;     /* of the hook: its words, then `freeze` or `thaw`, then the disks */
    unsigned action; /* where this word is */
    char why[FREEZE_GUARD_ANSWER_MAX - 1];
};

static int parse(struct guard *g, int argc, char **argv)
{
    unsigned count;

    if (argc < 4)
        return -1;
    g->seconds = (unsigned)strtoul(argv[1], NULL, 10);
    count = (unsigned)strtoul(argv[2], NULL, 10);
    if (count == 0 || count > (unsigned)argc - 3)
        return -1;
    g->argv = calloc((size_t)argc, sizeof *g->argv);
    if (!g->argv)
        return -1;
    for (unsigned i = 0; i < count; i++)
        g->argv[i] = argv[3 + i];
    g->action = count;
    for (unsigned i = count; i + 3 < (unsigned)argc; i++)
        g->argv[i + 1] = argv[3 + i];
    return 0;
}

static int64_t deadline_of(const struct guard *g)
{
    return deadline_in(g->seconds * INT64_C(1000000));
}

/* As hook_run. A freeze is pointless when the server is gone. If this process dies, nobody would know how a freeze
 * that is under way ends; so it dies, too, and the server thaws. */
static int freeze(struct guard *g)
{
    const struct hook_run run = {.argv = g->argv,
                                 .deadline = deadline_of(g),
                                 .seconds = g->seconds,
                                 .watch = STDIN_FILENO,
                                 .dies_with_us = true};

    g->argv[g->action] = (char *)"freeze";
    return hook_run(&run, g->why, sizeof g->why);
}

static int thaw(struct guard *g, int64_t deadline)
{
    const struct hook_run run = {
        .argv = g->argv, .deadline = deadline, .seconds = g->seconds, .watch = -1};

    g->why[0] = '\0';
    g->argv[g->action] = (char *)"thaw";
    return hook_run(&run, g->why, sizeof g->why);
}

/* Likewise. One that fails is tried again, in the time that is left. */
static int thaw_for_server(struct guard *g)
{
    int64_t deadline = deadline_of(g);
    int r = thaw(g, deadline);

    return r != 0 && deadline_in(0) < deadline ? thaw(g, deadline) : r;
}

/* Somebody who reads the system's log has to know: where the server is gone, nobody else tells. Standard
 * error is left out where nobody reads it: writing must not block. */
static void tell(const struct guard *g, int priority, const char *what)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    bool takes_it = poll(&out, 1, 0) == 1 && (out.revents & POLLOUT);

    openlog("nbdfleece", LOG_PID | (takes_it ? LOG_PERROR : 0), LOG_DAEMON);
    syslog(priority, "freeze hook: %s: %s%s%s", g->argv[0], what, g->why[0] ? ": " : "", g->why);
}

/* It is tried on, with longer and longer pauses, because a guest may have been busy, and nobody else
 * thaws it. */
static int thaw_on(struct guard *g)
{
    int64_t end = deadline_in(TRY_SECONDS * INT64_C(1000000));
    unsigned pause = 1;
    int r;

    tell(g, LOG_ERR, "guests may stand still, thaw is tried on");
    do {
        sleep(pause);
        pause = pause * 2 < PAUSE_SECONDS ? pause * 2 : PAUSE_SECONDS;
        r = thaw(g, deadline_of(g));
    } while (r != 0 && deadline_in(0) < end);
    if (r != 0)
        tell(g, LOG_ERR, "guests may stand still, and thaw is given up");
    else
        tell(g, LOG_WARNING, "guests are thawed at last");
    return r;
}

/* False: the server is gone. */
static bool answer(const struct guard *g, char kind)
{
    char text[FREEZE_GUARD_ANSWER_MAX];
    size_t length = 1;

    text[0] = kind;
    if (kind != FREEZE_GUARD_DONE) {
        length += strlen(g->why);
        memcpy(text + 1, g->why, length - 1);
    }
    return send(STDIN_FILENO, text, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* 0: the server is gone. */
static char next_command(void)
{
    char command;
    ssize_t n;

    do
        n = recv(STDIN_FILENO, &command, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1 ? command : 0;
}

static void ignore_signals(void)
{
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,
                                  SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM};

    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
}

static char freeze_for_server(struct guard *g)
{
    int r = freeze(g);

    if (r == HOOK_NONE_ASKED)
        return FREEZE_GUARD_NONE_ASKED;
    return r != 0 ? FREEZE_GUARD_FAILED : FREEZE_GUARD_DONE;
}

/* 0: no guest stands still. The server asks for `thaw`, or is gone, or lets go of its end to say that
 * it wants no freeze any more; then it still hears the answers. */
static int serve(struct guard *g)
{
    bool frozen = false, heard;
    char command;
    int r;

    while ((command = next_command()) == FREEZE_GUARD_FREEZE) {
        char kind = freeze_for_server(g);

        frozen |= kind != FREEZE_GUARD_NONE_ASKED;
        answer(g, kind);
    }
    if (command != FREEZE_GUARD_THAW && !frozen)
        return 0;
    r = thaw_for_server(g);
    heard = answer(g, r != 0 ? FREEZE_GUARD_FAILED : FREEZE_GUARD_DONE);
    if (r != 0)
        return thaw_on(g);
    if (!heard)
        tell(g, LOG_WARNING, "the server ended while guests stood still: they are thawed");
    return 0;
}

int main(int argc, char **argv)
{
    struct guard g = {.why = ""};
    int r;

    ignore_signals();
    close_range(3, ~0U, 0);
    hook_prepare();
    if (parse(&g, argc, argv) < 0) {
        fprintf(stderr, "freeze-guard: nbdfleece starts it, nobody else\n");
        return 2;
    }
    r = serve(&g);
    free(g.argv);
    return r != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
