/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking for the next request for a moment before sleeping until it comes.
 *
 * A client with few requests at a time answers our reply with its next request within some 10 us.
 * Being woken for it costs both sides more than that: the sleeping processor has to come back, the
 * sender has to call it. So the connection's thread asks the socket again and again for up to
 * poll_max_ns before it blocks. (4 KiB at depth 1: twice the requests a second.) It must not burn a
 * processor that somebody else could use:
 *
 *  - Polling that finds nothing in time is a miss. A hit earns a point, a miss costs two; without
 *    points the connection stops polling, after each run of misses for twice as many requests as
 *    before. Trying again needs a wait that was short. So a client with pauses between its requests
 *    costs at most a few microseconds for each of them, an idle one nothing.
 *  - At most half of the processors that we may use have pollers at the same time. So nobody polls
 *    where there is one processor.
 *  - Nobody polls while more threads can run on this machine than it has processors. /proc/loadavg
 *    has the number; it is looked at every CROWD_CHECK_NS, and two looks in a row have to find a
 *    crowd. Nobody polls where it cannot be read.
 */
#ifndef NBD_BUSY_POLL_H
#define NBD_BUSY_POLL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define POLL_POINTS_MAX 16u
#define POLL_POINTS_TRY 4u /* to begin with, and after a pause */
#define POLL_PAUSE_MIN  16u
#define POLL_PAUSE_MAX  1024u
/* A wait that ended this many times poll_max_ns after its beginning could have been polled for:
 * being woken is part of it. */
#define POLL_SHORT     4u
#define CROWD_CHECK_NS 5000000u

/* What all connections share. Any thread. */
struct poll_budget {
    uint64_t max_ns; /* 0: nobody polls */
    unsigned pollers_max;
    unsigned processors; /* of the machine: what the runnable threads are compared with */
    int loadavg;         /* descriptor of /proc/loadavg, or -1 */
    atomic_uint pollers;
    _Atomic uint64_t checked_ns;   /* when loadavg was looked at last */
    atomic_uint crowds;            /* looks in a row that found a crowd */
    _Atomic uint64_t hits, misses; /* of the connections that have ended */
};

void poll_budget_init(struct poll_budget *b, uint64_t max_ns);
void poll_budget_destroy(struct poll_budget *b);

/* The part of one connection; used by its thread alone. */
struct busy_poll {
    unsigned points;
    unsigned pause; /* waits without polling after the next run of misses */
    unsigned skip;  /* of these are left */
    uint64_t hits, misses;
};

void busy_poll_init(struct busy_poll *p);

/* The connection ends: add its hits and misses to those of the budget. */
void busy_poll_account(const struct busy_poll *p, struct poll_budget *b);

/* May the thread poll for its next input, at `now` (CLOCK_MONOTONIC, ns)? Then it holds a place in
 * the budget until busy_poll_end. */
bool busy_poll_begin(struct busy_poll *p, struct poll_budget *b, uint64_t now);
/* `hit`: there was input. */
void busy_poll_end(struct busy_poll *p, struct poll_budget *b, bool hit);
/* The thread has waited `ns` for input in all, with or without polling first, and blocked in the
 * end. */
void busy_poll_waited(struct busy_poll *p, const struct poll_budget *b, uint64_t ns);

#endif
