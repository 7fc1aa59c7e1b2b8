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

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

/* How often `thaw` is tried without a server, a second apart, where it fails. A service manager that
 * ends all processes of the server may end the first one, too. */
#define TRIES_ALONE 10

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

/* A freeze is pointless when the server is gone. If this process dies, nobody would know how a freeze
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

    g->argv[g->action] = (char *)"thaw";
    return hook_run(&run, g->why, sizeof g->why);
}

/* One that fails is tried again, in the time that is left. */
static int thaw_for_server(struct guard *g)
{
    int64_t deadline = deadline_of(g);
    int r = thaw(g, deadline);

    return r < 0 && deadline_in(0) < deadline ? thaw(g, deadline) : r;
}

/* Nobody else can tell what has happened: the system's log has to. */
static void thaw_alone(struct guard *g)
{
    int r = thaw(g, deadline_of(g));

    for (unsigned i = 1; i < TRIES_ALONE && r < 0; i++) {
        sleep(1);
        r = thaw(g, deadline_of(g));
    }
    openlog("nbdfleece", LOG_PID | LOG_PERROR, LOG_DAEMON);
    if (r < 0)
        syslog(LOG_ERR,
               "freeze hook: %s: the server ended while guests stood still, and they cannot be "
               "thawed: %s",
               g->argv[0], g->why);
    else
        syslog(LOG_WARNING,
               "freeze hook: %s: the server ended while guests stood still: they are thawed",
               g->argv[0]);
}

/* False: the server is gone. */
static bool answer(const struct guard *g, int r)
{
    char text[FREEZE_GUARD_ANSWER_MAX];
    size_t length = 1;

    text[0] = r < 0 ? FREEZE_GUARD_FAILED : FREEZE_GUARD_DONE;
    if (r < 0) {
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

/* Until the server has asked for `thaw`, or is gone. */
static void serve(struct guard *g)
{
    bool frozen = false;
    char command;

    while ((command = next_command()) != 0) {
        if (command == FREEZE_GUARD_THAW) {
            answer(g, thaw_for_server(g));
            return;
        }
        frozen = true;
        if (!answer(g, freeze(g)))
            break;
    }
    if (frozen)
        thaw_alone(g);
}

int main(int argc, char **argv)
{
    struct guard g = {.why = ""};

    ignore_signals();
    close_range(3, ~0U, 0);
    hook_prepare();
    if (parse(&g, argc, argv) < 0) {
        fprintf(stderr, "freeze-guard: nbdfleece starts it, nobody else\n");
        return 2;
    }
    serve(&g);
    free(g.argv);
    return 0;
}
