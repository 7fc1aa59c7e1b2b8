/* SPDX-License-Identifier: BSD-3-Clause */
/* The turns of simulated threads, for what wraps the functions that wait (sim-wraps.c). */
#ifndef TESTS_RIGS_SIM_TURNS_H
#define TESTS_RIGS_SIM_TURNS_H

#include "tests/rigs/sim-threads.h"

#include <pthread.h>
#include <semaphore.h>

#define SIM_SECOND     INT64_C(1000000000)
#define SIM_NEVER      INT64_MAX
#define SIM_CLOCK_BASE (INT64_C(1800000000) * SIM_SECOND) /* CLOCK_REALTIME at the beginning */
#define SIM_MONO_BASE  (1000 * SIM_SECOND)

enum sim_thread_state { SIM_READY, SIM_WAITING, SIM_ENDED };

struct sim_thread {
    sem_t turn;
    unsigned number, world;
    enum sim_thread_state state;
    const void *waits_for; /* a lock, a condition, a thread; NULL: for time alone */
    int64_t until;
    bool timed_out;
    GThread *g; /* NULL: the first one, or a pthread */
    pthread_t p;
    GThreadFunc body;
    void *opaque;
};

/* The thread that has the turn alone reads and changes all of this. */
struct sim_turns {
    GPtrArray *threads; /* that have not been joined, in order of creation */
    unsigned made, world;
    int64_t now, jumped, booted;
    GRand *rand; /* NULL: no chance */
    double yield;
};
extern struct sim_turns sim_turns;
extern _Thread_local struct sim_thread *sim_self; /* NULL: it takes no turns */

/* The calling thread waits for something, at most until then. False: the time is over. */
bool sim_wait(const void *what, int64_t until);
/* Those who wait for it, or the first of them, may go on. */
void sim_wake(const void *what, bool all);
/* A thread that begins, that has ended. */
void sim_turn_take(struct sim_thread *t);
void sim_turn_pass(void);

struct sim_thread *sim_thread_new(void);
void sim_thread_forget(struct sim_thread *t);

#endif
