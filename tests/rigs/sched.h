/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All schedules of a few threads, one after the other.
 *
 * A scenario's threads are fibers on one real thread, and the files of server/disk/ are compiled
 * once more with sched-instrument.h, so that each atomic operation, each lock, each futex call and
 * each call of the backend is a *step*: in front of it another fiber may be given the turn. A run
 * is then determined by the list of its decisions; sched_explore runs the scenario again and again,
 * depth first, until all lists have been had in which a fiber that could go on is interrupted at
 * most `preemptions` times. (Where it blocks or ends, all successors are tried as well.) Few bugs
 * need more than two or three interruptions, and every one found comes with its schedule.
 *
 * What it does not show: effects of weak memory order; every operation is sequentially consistent
 * here. Those are for ThreadSanitizer and the model test.
 */
#ifndef TESTS_RIGS_SCHED_H
#define TESTS_RIGS_SCHED_H

#include "server/disk/futex.h"

#include <glib.h>
#include <pthread.h>

#define SCHED_MAX_FIBERS 4

struct scenario {
    const char *name;
    unsigned preemptions, preemptions_long; /* at most, by default and with FLEECE_LONG */
    void *(*setup)(void);                   /* before each run; returns its state */
    void (*bodies[SCHED_MAX_FIBERS])(void *state);
    void (*finish)(void *state); /* after each run: check, take down */
};

/* All runs of it. A failure prints the schedule and aborts. */
void sched_explore(const struct scenario *s);

/* Something is wrong: print what and the schedule that led there, abort. */
_Noreturn void sched_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* What the instrumented code calls. */
void sched_step(const char *where, int line);
void sched_wait(futex_word *w, uint32_t value, const char *where, int line);
void sched_wake(futex_word *w, const char *where, int line);
void sched_mutex_lock(pthread_mutex_t *m, const char *where, int line);
void sched_mutex_unlock(pthread_mutex_t *m);
void sched_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, const char *where, int line);
void sched_cond_broadcast(pthread_cond_t *c, const char *where, int line);
void *sched_private_get(void);
void sched_private_set(void *p);

#endif
