/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fixed sequence of steps, in which each operation of the storage fails in turn: once, or from then
 * on, or hangs for long before it fails. After each step it is judged what a death would leave. Guests notice nothing; a command may
 * fail.
 */
#include "common/util/log.h"
#include "tests/rigs/sim-steps.h"
#include "tests/rigs/sim-threads.h"

#include <errno.h>
#include <string.h>

static const char *const sequence[] = {
    "write", "idle", "write over a border", "add n", "clear both, with views", "resize", "idle",
};

/* A guest's write waits for the folder 5 s, and for its failure to be noted somewhere else. */
#define MOST_WAIT INT64_C(8000000000)
#define HANGS     INT64_C(200000000000)

struct fault {
    struct sim_run run;
    unsigned fails_at, lasts; /* operations, from 1 */
    unsigned done;            /* operations */
    int64_t hangs;            /* so long before it fails, ns */
};

static struct sim_host base;
static uint32_t seed = 1;

static bool counts(enum sim_op op)
{
    return op != SIM_READ && op != SIM_OPEN;
}

static int fail_there(void *opaque, struct storage *s, enum sim_op op, const char *name)
{
    struct fault *f = opaque;

    if (!f->fails_at || !counts(op) || ++f->done < f->fails_at || f->done >= f->fails_at + f->lasts)
        return 0;
    sim_note("fails: %s %s", sim_op_name(op), name);
    sim_model_doubt(&f->run.host.model);
    sim_model_doubt(&f->run.host.after);
    if (f->hangs)
        sim_threads_sleep(f->hangs);
    return -EIO;
}

static void check(struct fault *f)
{
    struct sim_host copy;

    sim_server_copy(f->run.server, &copy);
    sim_check(&copy, SIM_POWER, seed++, &(struct sim_options){.power = true});
    sim_check(&copy, seed % 2 ? SIM_PROCESS : SIM_POWER, seed,
              &(struct sim_options){.power = true});
    sim_host_clear(&copy);
}

static void take(struct fault *f, const char *name)
{
    int64_t begin = sim_clock();

    sim_note("%s", name);
    for (unsigned k = 0; k < sim_n_steps; k++)
        if (strcmp(sim_steps[k].name, name) == 0)
            sim_steps[k].take(&f->run);
    if (g_str_has_prefix(name, "write") && sim_clock() - begin > MOST_WAIT)
        sim_fail("a guest has waited for %" G_GINT64_FORMAT " ms", (sim_clock() - begin) / 1000000);
}

/* False: there are not so many operations. */
static bool run(unsigned fails_at, unsigned lasts, int64_t hangs)
{
    g_autofree struct fault *f = g_new0(struct fault, 1);
    struct sim_options options = {.power = true, .failing = true, .hook = fail_there, .opaque = f};
    bool reached;

    sim_note(NULL);
    sim_world_enter();
    sim_run_begin(&f->run, &base, &options);
    f->run.failing = true;
    f->fails_at = fails_at;
    f->lasts = lasts;
    f->hangs = hangs;
    for (unsigned k = 0; k < G_N_ELEMENTS(sequence) && !f->run.failed; k++) {
        take(f, sequence[k]);
        if (f->done >= fails_at)
            check(f);
    }
    reached = f->done >= fails_at;
    f->fails_at = 0;
    sim_threads_sleep(hangs); /* so that all threads are back */
    sim_run_end(&f->run);
    sim_world_leave();
    return reached;
}

static void test_once(void)
{
    unsigned n = 1;

    while (run(n, 1, 0))
        n++;
    g_test_message("%u operations", n - 1);
    g_assert_cmpuint(n, >, 50);
    sim_counts_print();
}

static void test_on(void)
{
    for (unsigned n = 1; run(n, 1000000, 0); n++)
        continue;
    sim_counts_print();
}

static void test_hang(void)
{
    for (unsigned n = 1; run(n, 1, HANGS); n++)
        continue;
    sim_counts_print();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!g_getenv("FLEECE_SIM_LOG"))
        log_set_target(LOG_TO_NULL);
    sim_threads_begin();
    sim_base_new(&base, &(struct sim_options){.power = true});
    g_test_add_func("/sim/faults/once", test_once);
    g_test_add_func("/sim/faults/from-then-on", test_on);
    g_test_add_func("/sim/faults/hang", test_hang);
    return g_test_run();
}
