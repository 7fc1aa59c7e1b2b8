/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sched.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_SIZE (256u << 10)
#define MAX_STEPS  20000u /* in one run: more is taken for an endless loop */
#define MAX_TURNS  64u    /* changes of turn that are remembered */

enum fiber_state { READY, BLOCKED, DONE };

struct fiber {
    ucontext_t context;
    char *stack;
    void (*body)(void *);
    enum fiber_state state;
    const void *waits_for; /* a futex word or a mutex */
    void *private;
    void *fake_stack; /* the address sanitizer's */
    const char *where;
    int line;
};

struct decision {
    uint8_t options, chosen;
};

struct turn {
    unsigned fiber, step;
    const char *where; /* the one that lost the turn stood there */
    int line;
};

/* The signature of a fiber's entry takes no pointer, and the instrumented code knows of no
 * scheduler: so there is one, of the thread that explores. */
static struct sched {
    const struct scenario *scenario;
    void *state;
    unsigned n;
    struct fiber fibers[SCHED_MAX_FIBERS];
    int current; /* -1: the explorer itself */
    ucontext_t explorer;
    void *private, *fake_stack;
    const void *stack;
    size_t stack_size;
    GPtrArray *locked; /* pthread_mutex_t */
    GArray *decisions; /* of this run, and as far as `depth` of the one to come */
    unsigned depth, preempted, preemptions, steps;
    struct turn turns[MAX_TURNS];
    unsigned n_turns;
} sched = {.current = -1};

void sched_fail(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "# %s: %s\n", sched.scenario->name, text);
    for (unsigned i = 0; i < sched.n_turns; i++)
        fprintf(stderr, "# step %u: fiber %u goes on at %s:%d\n", sched.turns[i].step,
                sched.turns[i].fiber, sched.turns[i].where ? sched.turns[i].where : "its start",
                sched.turns[i].line);
    for (unsigned i = 0; i < sched.n; i++)
        fprintf(stderr, "# fiber %u is %s at %s:%d\n", i,
                sched.fibers[i].state == READY     ? "ready"
                : sched.fibers[i].state == BLOCKED ? "blocked"
                                                   : "done",
                sched.fibers[i].where ? sched.fibers[i].where : "its start", sched.fibers[i].line);
    printf("Bail out! %s: %s\n", sched.scenario->name, text);
    fflush(NULL);
    abort();
}

/* ---- turns ---- */

static void note_turn(unsigned to)
{
    if (sched.n_turns < MAX_TURNS)
        sched.turns[sched.n_turns++] = (struct turn){.fiber = to,
                                                     .step = sched.steps,
                                                     .where = sched.fibers[to].where,
                                                     .line = sched.fibers[to].line};
}

/* Tell the address sanitizer which stack is in use. */
static void before_switch(void **fake_stack, const void *stack, size_t size)
{
#if defined __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(fake_stack, stack, size);
#endif
}

static void after_switch(void *fake_stack, bool from_explorer)
{
#if defined __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, from_explorer ? &sched.stack : NULL,
                                    from_explorer ? &sched.stack_size : NULL);
#endif
}

static void switch_to(unsigned to)
{
    struct fiber *from = sched.current >= 0 ? &sched.fibers[sched.current] : NULL;
    struct fiber *f = &sched.fibers[to];

    note_turn(to);
    sched.current = (int)to;
    before_switch(from ? (from->state == DONE ? NULL : &from->fake_stack) : &sched.fake_stack,
                  f->stack, STACK_SIZE);
    swapcontext(from ? &from->context : &sched.explorer, &f->context);
    after_switch(from ? from->fake_stack : sched.fake_stack, false);
}

static void switch_to_explorer(void)
{
    struct fiber *from = &sched.fibers[sched.current];

    sched.current = -1;
    before_switch(NULL, sched.stack, sched.stack_size);
    swapcontext(&from->context, &sched.explorer);
}

static unsigned choose(unsigned options)
{
    struct decision *d;

    if (sched.depth == sched.decisions->len) {
        struct decision first = {.options = (uint8_t)options};

        g_array_append_val(sched.decisions, first);
    }
    d = &g_array_index(sched.decisions, struct decision, sched.depth++);
    if (d->options != options)
        sched_fail("the same schedule does not lead to the same place");
    return d->chosen;
}

/* The nth of the fibers that are ready, `except` not counted. */
static unsigned nth_ready(unsigned n, int except)
{
    for (unsigned i = 0;; i++)
        if ((int)i != except && sched.fibers[i].state == READY && n-- == 0)
            return i;
}

static unsigned count_ready(int except)
{
    unsigned n = 0;

    for (unsigned i = 0; i < sched.n; i++)
        n += (int)i != except && sched.fibers[i].state == READY;
    return n;
}

/* The current fiber cannot go on: somebody else must. */
static void give_up_turn(void)
{
    unsigned ready = count_ready(-1);

    if (ready == 0) {
        for (unsigned i = 0; i < sched.n; i++)
            if (sched.fibers[i].state == BLOCKED)
                sched_fail("deadlock");
        switch_to_explorer();
        return;
    }
    switch_to(nth_ready(ready > 1 ? choose(ready) : 0, -1));
}

/* ---- what instrumented code calls; outside a run it does no harm ---- */

void sched_step(const char *where, int line)
{
    unsigned others, to;

    if (sched.current < 0)
        return;
    sched.fibers[sched.current].where = where;
    sched.fibers[sched.current].line = line;
    if (++sched.steps > MAX_STEPS)
        sched_fail("no end after %u steps", MAX_STEPS);
    others = count_ready(sched.current);
    if (others == 0 || sched.preempted == sched.preemptions)
        return;
    to = choose(1 + others);
    if (to == 0)
        return;
    sched.preempted++;
    switch_to(nth_ready(to - 1, sched.current));
}

static void block_on(const void *what)
{
    struct fiber *f = &sched.fibers[sched.current];

    f->state = BLOCKED;
    f->waits_for = what;
    give_up_turn();
}

static void wake(const void *what)
{
    for (unsigned i = 0; i < sched.n; i++)
        if (sched.fibers[i].state == BLOCKED && sched.fibers[i].waits_for == what)
            sched.fibers[i].state = READY;
}

void sched_wait(futex_word *w, uint32_t value, const char *where, int line)
{
    if (sched.current < 0)
        sched_fail("%s:%d waits where nobody else runs", where, line);
    sched_step(where, line);
    if (atomic_load(w) == value)
        block_on(w);
}

void sched_wake(futex_word *w, const char *where, int line)
{
    sched_step(where, line);
    wake(w);
}

/* The mutexes themselves stay as they are; who holds one is known here. */
void sched_mutex_lock(pthread_mutex_t *m, const char *where, int line)
{
    sched_step(where, line);
    while (g_ptr_array_find(sched.locked, m, NULL)) {
        if (sched.current < 0)
            sched_fail("%s:%d: locked for ever", where, line);
        block_on(m);
    }
    g_ptr_array_add(sched.locked, m);
}

void sched_mutex_unlock(pthread_mutex_t *m)
{
    if (!g_ptr_array_remove_fast(sched.locked, m))
        sched_fail("unlocked what was not locked");
    wake(m);
}

void sched_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, const char *where, int line)
{
    if (sched.current < 0)
        sched_fail("%s:%d waits where nobody else runs", where, line);
    sched_step(where, line);
    sched_mutex_unlock(m);
    block_on(c);
    sched_mutex_lock(m, where, line);
}

void sched_cond_broadcast(pthread_cond_t *c, const char *where, int line)
{
    sched_step(where, line);
    wake(c);
}

/* One of each fiber's own, kept from run to run. */
static void **private_here(void)
{
    return sched.current >= 0 ? &sched.fibers[sched.current].private : &sched.private;
}

void *sched_private_get(void)
{
    return *private_here();
}

void sched_private_set(void *p)
{
    *private_here() = p;
}

/* ---- runs ---- */

static void fiber_main(void)
{
    struct fiber *f = &sched.fibers[sched.current];

    after_switch(NULL, sched.stack == NULL);
    f->body(sched.state);
    f->state = DONE;
    f->where = "its end";
    f->line = 0;
    give_up_turn();
    g_assert_not_reached();
}

static void prepare_fiber(struct fiber *f, void (*body)(void *))
{
    f->body = body;
    f->state = READY;
    f->where = NULL;
    f->line = 0;
    f->fake_stack = NULL;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_SIZE;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
}

static void run_once(void)
{
    sched.depth = sched.preempted = sched.steps = sched.n_turns = 0;
    sched.state = sched.scenario->setup();
    for (unsigned i = 0; i < sched.n; i++)
        prepare_fiber(&sched.fibers[i], sched.scenario->bodies[i]);
    switch_to(sched.n > 1 ? choose(sched.n) : 0);
    sched.scenario->finish(sched.state);
}

/* The next list of decisions, depth first. */
static bool next_run(void)
{
    while (sched.decisions->len > 0) {
        struct decision *last =
            &g_array_index(sched.decisions, struct decision, sched.decisions->len - 1);

        if (last->chosen + 1 < last->options) {
            last->chosen++;
            return true;
        }
        g_array_set_size(sched.decisions, sched.decisions->len - 1);
    }
    return false;
}

void sched_explore(const struct scenario *s)
{
    uint64_t runs = 0;

    sched.scenario = s;
    sched.preemptions = g_getenv("FLEECE_LONG") ? s->preemptions_long : s->preemptions;
    sched.locked = g_ptr_array_new();
    sched.decisions = g_array_new(FALSE, FALSE, sizeof(struct decision));
    for (sched.n = 0; sched.n < SCHED_MAX_FIBERS && s->bodies[sched.n]; sched.n++)
        sched.fibers[sched.n].stack = g_malloc(STACK_SIZE);
    do {
        run_once();
        runs++;
    } while (next_run());
    g_test_message("%s: %" PRIu64 " schedules with up to %u preemptions", s->name, runs,
                   sched.preemptions);
    for (unsigned i = 0; i < sched.n; i++) {
        g_free(sched.fibers[i].stack);
        free(g_steal_pointer(&sched.fibers[i].private));
    }
    free(g_steal_pointer(&sched.private));
    g_array_unref(sched.decisions);
    g_ptr_array_unref(sched.locked);
}
