/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole monitors on socket pairs, with a table of commands of the rig's own. The test is the client
 * and the main loop at once: it iterates the main context while it waits for a line.
 *
 *   echo text, late text    answer the text: at once, or when the test says so
 *   fill bytes              answers that many x
 *   fail, fail-silently, fail-at-once, nothing
 */
#ifndef TESTS_RIGS_MONITOR_RIG_H
#define TESTS_RIGS_MONITOR_RIG_H

#include "server/control/monitor.h"

/* What the commands work on. */
struct counters {
    unsigned runs; /* of echo, fill and late */
    GQueue late;   /* struct qmp_call, not answered yet */
};

struct client {
    struct monitor *monitor; /* NULL: it has ended */
    int fd;                  /* the client's end; -1: closed */
    GString *in;             /* received, and not taken by next_line */
    unsigned gone;           /* how often the monitor has told that its client has gone */
    struct counters counters;
};

void client_begin(struct client *c);
/* The same: a client of a server whose counters are these; NULL: its own. */
void client_begin_with(struct client *c, struct counters *counters);
void client_end(struct client *c);

/* Send all of it, and let the monitor read meanwhile. */
void say(struct client *c, const char *text);
/* Take in what has come. false: the end of the stream. */
bool take(struct client *c);
/* The next line without its CRLF, g_free; NULL at the end of the stream. */
char *next_line(struct client *c);
void expect(struct client *c, const char *expected);
/* Take the greeting, and answer it. */
void negotiate(struct client *c);

/* Let the monitor send the event number i to its client. */
void send_event(struct client *c, int i);

/* An error reply without its last brace, so that an id can follow. */
#define GENERIC(text) "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" text "\"}"

#endif
