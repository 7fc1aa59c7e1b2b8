/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Long random runs: the threads of the store take turns by chance, the server dies and goes on again
 * and again, and at some points on the way it is looked what a death would have left. In some runs
 * the storage fails from some moment on; in some, the clock jumps; some have no journal.
 *
 *   FLEECE_LONG       many more of them
 *   FLEECE_SIM_SEED   of the first run; each other one has the next
 *   FLEECE_SIM_RUNS   how many
 */
#include "common/util/log.h"
#include "tests/rigs/sim-steps.h"
#include "tests/rigs/sim-threads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEPS  30
#define POINTS 6   /* that are looked at, of a step */
#define LEAST  130 /* crashes of a run */
#define SECOND INT64_C(1000000000)

/* What is special about a run. */
enum kind {
    PLAIN,
    PROCESS, /* --durability process */
    JUMPS,   /* of the clock */
    FAILS,   /* the storage does */
    BREAKS,  /* likewise, with --on-state-error break-guest-write */
};

struct random_run {
    struct sim_run run;
    enum kind kind;
    GRand *rand;
    /* Points of the step, each as likely as the others. */
    struct sim_host points[POINTS];
    char *where[POINTS];
    unsigned n, met;
    /* The storage fails. */
    bool fails;
    bool reads;     /* those, too */
    unsigned sound; /* operations until it begins to */
    int error;
    unsigned errors; /* so far */
};

static struct sim_host base;
static uint32_t first_seed = 1;
static unsigned runs = 6;

static int chance(struct random_run *r, int n)
{
    return g_rand_int_range(r->rand, 0, n);
}

/* After a jump of the clock it cannot always be known when the images were changed last. */
static void put_point(struct random_run *r, unsigned k, struct sim_server *s, const char *where)
{
    sim_host_clear(&r->points[k]);
    g_free(r->where[k]);
    sim_server_copy(s, &r->points[k]);
    if (r->kind == JUMPS) {
        sim_model_doubt(&r->points[k].model);
        sim_model_doubt(&r->points[k].after);
    }
    r->where[k] = g_strdup(where);
}

static void note_point(void *opaque, struct sim_server *s, const char *where)
{
    struct random_run *r = opaque;
    unsigned k = r->n < POINTS ? r->n++ : (unsigned)chance(r, (int)r->met + 1);

    r->met++;
    if (k < POINTS)
        put_point(r, k, s, where);
}

static bool may_fail(const struct random_run *r, enum sim_op op)
{
    return op == SIM_READ || op == SIM_OPEN ? r->reads : op != SIM_UNLINK;
}

static int fail_perhaps(void *opaque, struct storage *s, enum sim_op op, const char *name)
{
    struct random_run *r = opaque;

    if (!r->fails || !may_fail(r, op))
        return 0;
    if (r->sound) {
        r->sound--;
        return 0;
    }
    if (r->errors && chance(r, 4) == 0)
        return 0;
    r->errors++;
    sim_model_doubt(&r->run.host.model);
    sim_model_doubt(&r->run.host.after);
    return r->error;
}

/* Notes of a failure stay on the machine. Where they are needed, the folder must not go to another
 * one. */
static enum sim_death some_death(struct random_run *r)
{
    static const enum sim_death deaths[] = {SIM_PROCESS,   SIM_PROCESS, SIM_POWER, SIM_POWER,
                                            SIM_UNMOUNTED, SIM_FORGOT,  SIM_MOVED};

    return deaths[chance(r, G_N_ELEMENTS(deaths) - (r->kind >= FAILS))];
}

static void look_at_points(struct random_run *r)
{
    for (unsigned k = 0; k < r->n; k++) {
        enum sim_death death = some_death(r);

        sim_note("died: %s", r->where[k]);
        sim_check(&r->points[k], death, (uint32_t)chance(r, 1 << 20), &r->run.options);
    }
}

static void forget_points(struct random_run *r)
{
    for (unsigned k = 0; k < r->n; k++) {
        sim_host_clear(&r->points[k]);
        g_clear_pointer(&r->where[k], g_free);
    }
    r->n = r->met = 0;
}

/* By a moment or an hour, back or forth. */
static void jump(struct random_run *r)
{
    int64_t by = SECOND >> chance(r, 10);

    if (chance(r, 2))
        by *= 1 + chance(r, 3600);
    if (chance(r, 2))
        by = -by;
    sim_note("the clock jumps by %" G_GINT64_FORMAT " ms", by / 1000000);
    sim_clock_jump(by);
}

static void take_step(struct random_run *r)
{
    const struct sim_step *step = &sim_steps[chance(r, (int)sim_n_steps)];

    if (r->kind == JUMPS && chance(r, 3) == 0)
        jump(r);
    if (chance(r, 2)) {
        sim_run_write(&r->run, r->rand);
        return;
    }
    if (r->fails && strcmp(step->name, "stop and start") == 0)
        return;
    sim_note("%s", step->name);
    step->take(&r->run);
}

static void begin_to_fail(struct random_run *r)
{
    r->run.failing = r->fails = true;
    r->reads = chance(r, 2);
    r->sound = (unsigned)chance(r, 1 << chance(r, 9));
    r->error = chance(r, 2) ? -EIO : -ENOSPC;
}

/* The server dies at one of the points. */
static void die(struct random_run *r)
{
    unsigned k = (unsigned)chance(r, (int)r->n);
    enum sim_death death = some_death(r);

    r->fails = false;
    sim_note("dies (%u) and goes on: %s", death, r->where[k]);
    r->points[k].machine.no_room = chance(r, 6) == 0;
    sim_run_die(&r->run, &r->points[k], death, (uint32_t)chance(r, 1 << 20));
    if (r->kind >= FAILS && chance(r, 2))
        begin_to_fail(r);
}

static void run(uint32_t seed, enum kind kind)
{
    g_autofree struct random_run *r = g_new0(struct random_run, 1);
    struct sim_options options = {.power = kind != PROCESS,
                                  .break_guest_write = kind == BREAKS,
                                  .failing = kind >= FAILS,
                                  .at = note_point,
                                  .hook = fail_perhaps,
                                  .opaque = r};

    sim_note(NULL);
    sim_note("run %u, of kind %u", seed, kind);
    r->kind = kind;
    r->rand = g_rand_new_with_seed(seed);
    sim_world_enter();
    sim_threads_chance(seed, (double[]){0.0, 0.05, 0.5}[seed % 3]);
    sim_run_begin(&r->run, &base, &options);
    if (kind >= FAILS)
        begin_to_fail(r);
    for (unsigned k = 0; k < STEPS; k++) {
        forget_points(r);
        sim_server_watch(r->run.server, true);
        take_step(r);
        note_point(r, r->run.server, "after it");
        sim_server_watch(r->run.server, false);
        look_at_points(r);
        if (chance(r, 6) == 0 || r->run.failed)
            die(r);
    }
    r->fails = false;
    sim_run_end(&r->run);
    forget_points(r); /* its end has some, too */
    sim_threads_chance(0, 0);
    sim_world_leave();
    g_rand_free(r->rand);
}

static void run_all(unsigned number, enum kind kind)
{
    for (unsigned k = 0; k < number; k++)
        run(first_seed + k, kind);
    sim_counts_end((uint64_t)number * LEAST);
}

static void test_random(void)
{
    run_all(runs, PLAIN);
}

static void test_process(void)
{
    run_all(runs / 2, PROCESS);
}

static void test_jumps(void)
{
    run_all(runs / 2, JUMPS);
}

static void test_failures(void)
{
    run_all(runs, FAILS);
}

static void test_breaks(void)
{
    run_all(runs / 2, BREAKS);
}

int main(int argc, char **argv)
{
    const char *seed = g_getenv("FLEECE_SIM_SEED"), *number = g_getenv("FLEECE_SIM_RUNS");

    g_test_init(&argc, &argv, NULL);
    if (!g_getenv("FLEECE_SIM_LOG"))
        log_set_target(LOG_TO_NULL);
    sim_threads_begin();
    if (seed)
        first_seed = (uint32_t)strtoul(seed, NULL, 10);
    if (g_getenv("FLEECE_LONG"))
        runs *= 250;
    if (number)
        runs = (unsigned)strtoul(number, NULL, 10);
    sim_base_new(&base, &(struct sim_options){.power = true});
    g_test_add_func("/sim/random", test_random);
    g_test_add_func("/sim/random/process", test_process);
    g_test_add_func("/sim/random/jumps", test_jumps);
    g_test_add_func("/sim/failures", test_failures);
    g_test_add_func("/sim/failures/break-guest-write", test_breaks);
    return g_test_run();
}
