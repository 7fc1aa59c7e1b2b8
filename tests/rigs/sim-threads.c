/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-threads.h"

#include "tests/rigs/sim-turns.h"

#include <stdio.h>
#include <stdlib.h>

#define LONGEST (600 * SIM_SECOND) /* that a world's threads have to end */

struct sim_turns sim_turns;
_Thread_local struct sim_thread *sim_self;

struct saved_world {
    unsigned world;
    int64_t now, jumped, booted;
};
static GArray *worlds;

/* ---- whose turn it is ---- */

static struct sim_thread *thread_at(unsigned k)
{
    return sim_turns.threads->pdata[k];
}

static bool may_run(const struct sim_thread *t)
{
    return t->world == sim_turns.world && t->state == SIM_READY;
}

static struct sim_thread *choose(void)
{
    struct sim_thread *found = NULL;
    int n = 0;

    for (unsigned k = 0; k < sim_turns.threads->len; k++) {
        struct sim_thread *t = thread_at(k);

        if (!may_run(t))
            continue;
        if (!sim_turns.rand)
            return t;
        if (g_rand_int_range(sim_turns.rand, 0, ++n) == 0)
            found = t;
    }
    return found;
}

static _Noreturn void stuck(void)
{
    fprintf(stderr, "all simulated threads of world %u wait for ever:\n", sim_turns.world);
    for (unsigned k = 0; k < sim_turns.threads->len; k++) {
        struct sim_thread *t = thread_at(k);

        fprintf(stderr, "  thread %u, world %u, state %d, waits for %p\n", t->number, t->world,
                t->state, t->waits_for);
    }
    abort();
}

/* Nobody can run: let time pass until somebody can. */
static void pass_time(void)
{
    struct sim_thread *first = NULL;

    for (unsigned k = 0; k < sim_turns.threads->len; k++) {
        struct sim_thread *t = thread_at(k);

        if (t->world == sim_turns.world && t->state == SIM_WAITING && t->until != SIM_NEVER &&
            (!first || t->until < first->until))
            first = t;
    }
    if (!first)
        stuck();
    sim_turns.now = MAX(sim_turns.now, first->until);
    first->timed_out = true;
    first->state = SIM_READY;
}

void sim_turn_take(struct sim_thread *t)
{
    while (sem_wait(&t->turn) < 0)
        ;
}

/* Give the turn to whoever is next; with SIM_ENDED, for ever. */
void sim_turn_pass(void)
{
    struct sim_thread *me = sim_self, *next = choose();
    bool ends;

    while (!next) {
        pass_time();
        next = choose();
    }
    if (next == me)
        return;
    ends = me->state == SIM_ENDED; /* then another thread frees it, once that has the turn */
    sem_post(&next->turn);
    if (!ends)
        sim_turn_take(me);
}

/* False: the time is over. */
bool sim_wait(const void *what, int64_t until)
{
    sim_self->waits_for = what;
    sim_self->until = until;
    sim_self->timed_out = false;
    sim_self->state = SIM_WAITING;
    sim_turn_pass();
    sim_self->waits_for = NULL;
    return !sim_self->timed_out;
}

void sim_wake(const void *what, bool all)
{
    for (unsigned k = 0; k < sim_turns.threads->len; k++) {
        struct sim_thread *t = thread_at(k);

        if (t->state != SIM_WAITING || t->waits_for != what)
            continue;
        t->state = SIM_READY;
        if (!all)
            return;
    }
}

void sim_threads_yield(void)
{
    if (sim_self && sim_turns.rand && g_rand_double(sim_turns.rand) < sim_turns.yield)
        sim_turn_pass();
}

void sim_threads_sleep(int64_t nanoseconds)
{
    sim_wait(NULL, sim_turns.now + nanoseconds);
}

void sim_threads_settle(void)
{
    for (;;) {
        bool others = false;

        for (unsigned k = 0; k < sim_turns.threads->len; k++)
            others |= thread_at(k) != sim_self && may_run(thread_at(k));
        if (!others)
            return;
        sim_threads_sleep(0);
    }
}

/* ---- begin ---- */

struct sim_thread *sim_thread_new(void)
{
    struct sim_thread *t = g_new0(struct sim_thread, 1);

    sem_init(&t->turn, 0, 0);
    t->number = sim_turns.made++;
    t->world = sim_turns.world;
    t->until = SIM_NEVER;
    g_ptr_array_add(sim_turns.threads, t);
    return t;
}

void sim_thread_forget(struct sim_thread *t)
{
    g_ptr_array_remove(sim_turns.threads, t);
    sem_destroy(&t->turn);
    g_free(t);
}

void sim_threads_begin(void)
{
    sim_turns.threads = g_ptr_array_new();
    worlds = g_array_new(FALSE, FALSE, sizeof(struct saved_world));
    sim_self = sim_thread_new();
    sim_turns.booted = -SIM_MONO_BASE;
}

void sim_threads_chance(uint32_t seed, double yield)
{
    g_clear_pointer(&sim_turns.rand, g_rand_free);
    if (seed || yield > 0)
        sim_turns.rand = g_rand_new_with_seed(seed);
    sim_turns.yield = yield;
}

/* ---- worlds ---- */

void sim_world_enter(void)
{
    static unsigned last;
    struct saved_world w = {sim_turns.world, sim_turns.now, sim_turns.jumped, sim_turns.booted};

    g_array_append_val(worlds, w);
    sim_turns.world = sim_self->world = ++last;
}

static bool alone(void)
{
    for (unsigned k = 0; k < sim_turns.threads->len; k++) {
        struct sim_thread *t = thread_at(k);

        if (t != sim_self && t->world == sim_turns.world && t->state != SIM_ENDED)
            return false;
    }
    return true;
}

/* Those that nobody joins. */
static void forget_ended(void)
{
    for (unsigned k = sim_turns.threads->len; k-- > 0;) {
        struct sim_thread *t = thread_at(k);

        if (t != sim_self && t->world == sim_turns.world && t->state == SIM_ENDED)
            sim_thread_forget(t);
    }
}

void sim_world_leave(void)
{
    struct saved_world *w = &g_array_index(worlds, struct saved_world, worlds->len - 1);
    int64_t limit = sim_turns.now + LONGEST;

    while (!alone()) {
        if (sim_turns.now >= limit)
            stuck();
        sim_threads_sleep(SIM_SECOND);
    }
    forget_ended();
    sim_turns.world = sim_self->world = w->world;
    sim_turns.now = w->now;
    sim_turns.jumped = w->jumped;
    sim_turns.booted = w->booted;
    g_array_set_size(worlds, worlds->len - 1);
}

/* ---- clocks ---- */

int64_t sim_clock(void)
{
    return SIM_CLOCK_BASE + sim_turns.jumped + sim_turns.now;
}

void sim_clock_jump(int64_t nanoseconds)
{
    sim_turns.jumped += nanoseconds;
}

void sim_clock_boot(void)
{
    sim_turns.booted = sim_turns.now;
}
