/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fixed sequence of steps, in which each operation of the storage fails in turn: once, or from then
 * on, or hangs for long before it fails. After each step it is judged what a death would leave. Guests
 * notice nothing; a command may fail. With --on-state-error break-guest-write, writes may fail, too;
 * then bitmaps survive a failure of the journal.
 */
#include "common/state/folder.h"
#include "common/util/log.h"
#include "tests/rigs/sim-steps.h"
#include "tests/rigs/sim-threads.h"

#include <errno.h>
#include <string.h>

static const char *const sequence[] = {
    "write", "idle", "write over a border", "add n", "clear both, with views", "resize", "idle",
};

#define HANGS INT64_C(200000000000)
#define ON    1000000u /* operations: from then on */

/* Which operations fail, and how. */
struct kind {
    unsigned lasts; /* so many, one after the other */
    int64_t hangs;  /* so long before they fail, ns */
    bool reads;     /* only those that read */
    bool looks;     /* it is looked what is left just after it, too */
    struct sim_options options;
};

#define LOOKS 6

struct fault {
    struct sim_run run;
    struct sim_host looks[LOOKS]; /* at moments just after the failure */
    unsigned n_looks, checked;
    const struct kind *kind;
    unsigned fails_at; /* operation, from 1; 0: none */
    unsigned done;     /* operations */
};

static struct sim_host base;
static uint32_t seed = 1;

static bool counts(const struct kind *kind, enum sim_op op)
{
    return (op == SIM_READ || op == SIM_OPEN) == kind->reads;
}

/* With break-guest-write the journal may fail, and bitmaps stay good. */
static bool may_break(const struct fault *f, const char *name)
{
    return !f->kind->options.break_guest_write || !g_str_has_prefix(name, STATE_INTENT);
}

static int fail_there(void *opaque, struct storage *s, enum sim_op op, const char *name)
{
    struct fault *f = opaque;

    if (!f->fails_at || !counts(f->kind, op) || ++f->done < f->fails_at ||
        f->done >= f->fails_at + f->kind->lasts)
        return 0;
    sim_note("fails: %s %s", sim_op_name(op), name);
    if (may_break(f, name)) {
        sim_model_doubt(&f->run.host.model);
        sim_model_doubt(&f->run.host.after);
    }
    if (f->kind->hangs)
        sim_threads_sleep(f->kind->hangs);
    return -EIO;
}

static void look(void *opaque, struct sim_server *s, const char *where)
{
    struct fault *f = opaque;

    if (f->kind->looks && f->fails_at && f->done >= f->fails_at && f->n_looks < LOOKS)
        sim_server_copy(s, &f->looks[f->n_looks++]);
}

static void check_looks(struct fault *f)
{
    for (; f->checked < f->n_looks; f->checked++) {
        struct sim_host *h = &f->looks[f->checked];

        sim_model_doubt(&h->model);
        sim_model_doubt(&h->after);
        sim_note("just after it, %u", f->checked);
        sim_check(h, SIM_POWER, seed++, &f->run.options);
        if (f->checked % 3 == 0)
            sim_check(h, SIM_PROCESS, 8 * seed, &f->run.options);
        sim_host_clear(h);
    }
}

static void check_one(struct fault *f, enum sim_death death)
{
    struct sim_host copy;

    sim_server_copy(f->run.server, &copy);
    if (death == SIM_POWER)
        sim_model_doubt(&copy.model); /* a journal that has failed may be of no use */
    sim_check(&copy, death, seed, &f->run.options);
    sim_host_clear(&copy);
}

static void check(struct fault *f)
{
    check_one(f, SIM_POWER);
    seed++;
    check_one(f, seed % 2 ? SIM_PROCESS : SIM_POWER);
}

static void take(struct fault *f, const char *name)
{
    sim_note("%s", name);
    for (unsigned k = 0; k < sim_n_steps; k++)
        if (strcmp(sim_steps[k].name, name) == 0)
            sim_steps[k].take(&f->run);
}

/* False: there are not so many operations. */
static bool run(const struct kind *kind, unsigned fails_at)
{
    g_autofree struct fault *f = g_new0(struct fault, 1);
    struct sim_options options = kind->options;
    bool reached;

    options.failing = true;
    options.hook = fail_there;
    options.at = look;
    options.opaque = f;
    f->kind = kind;
    sim_note(NULL);
    sim_world_enter();
    sim_run_begin(&f->run, &base, &options);
    f->run.failing = true;
    f->fails_at = fails_at;
    for (unsigned k = 0; k < G_N_ELEMENTS(sequence) && !f->run.failed; k++) {
        take(f, sequence[k]);
        check_looks(f);
        if (f->done >= fails_at)
            check(f);
    }
    reached = f->done >= fails_at;
    f->fails_at = 0;
    sim_threads_sleep(kind->hangs); /* so that all threads are back */
    sim_run_end(&f->run);
    sim_world_leave();
    return reached;
}

static void run_all(const struct kind *kind, uint64_t least)
{
    unsigned n = 1;

    while (run(kind, n))
        n++;
    g_test_message("%u operations", n - 1);
    sim_counts_end(least);
}

static void test_once(void)
{
    run_all(&(struct kind){.lasts = 1, .looks = true, .options.power = true}, 700);
}

static void test_on(void)
{
    run_all(&(struct kind){.lasts = ON, .options.power = true}, 280);
}

static void test_hang(void)
{
    run_all(&(struct kind){.lasts = 1, .hangs = HANGS, .options.power = true}, 350);
}

static void test_reads(void)
{
    run_all(&(struct kind){.lasts = 1, .reads = true, .options.power = true}, 140);
}

static void test_process(void)
{
    run_all(&(struct kind){.lasts = 1}, 250);
}

static void test_break(void)
{
    run_all(&(struct kind){.lasts = 1, .options = {.power = true, .break_guest_write = true}}, 400);
}

static void test_break_on(void)
{
    run_all(&(struct kind){.lasts = ON, .options = {.power = true, .break_guest_write = true}},
            280);
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
    g_test_add_func("/sim/faults/reads", test_reads);
    g_test_add_func("/sim/faults/process", test_process);
    g_test_add_func("/sim/faults/break-guest-write", test_break);
    g_test_add_func("/sim/faults/break-guest-write/from-then-on", test_break_on);
    return g_test_run();
}
