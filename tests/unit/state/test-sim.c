/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All sequences of the steps of sim-steps.h, up to a length, with the server's death at each point of
 * their last step: before each operation of the storage, and between the steps of a change. (A point of
 * an earlier step is one of a shorter sequence.) Where nothing has changed since the point before, it
 * is not looked at once more.
 *
 *   FLEECE_SIM_PART   "P/N": part P of the longer sequences, which are cut into N parts
 *                     (tests/state/test-sim-parts.py takes them all)
 *   FLEECE_SIM_SEED   of what is left to chance
 */
#include "common/util/log.h"
#include "tests/rigs/sim-check.h"
#include "tests/rigs/sim-steps.h"
#include "tests/rigs/sim-threads.h"

#include <stdio.h>
#include <stdlib.h>

#define LENGTH 4u
/* By default: all sequences up to here, and so many longer ones. */
#define ALL_LENGTH   2u
#define SAMPLE       16u
#define LEAST_ALL    8000
#define LEAST_SAMPLE 400

struct point {
    struct sim_host host;
    char *where;
};

static struct {
    GRand *rand;
    struct sim_host base;
    struct sim_options options;
    GPtrArray *points; /* of the last step */
    bool last_step;    /* is being taken */
    uint32_t seed;
    unsigned sequences;
    unsigned part, parts; /* parts 0: the short sequences */
} t;

static void point_free(void *opaque)
{
    struct point *p = opaque;

    sim_host_clear(&p->host);
    g_free(p->where);
    g_free(p);
}

/* Nothing that outlives the server has changed since the point before: it is the same one. */
static bool is_new(const struct point *p)
{
    const struct point *last = t.points->len ? t.points->pdata[t.points->len - 1] : NULL;

    return !last || !sim_same(&last->host, &p->host, SIM_POWER);
}

static void note_point(void *opaque, struct sim_server *s, const char *where)
{
    struct point *p;

    if (!t.last_step)
        return;
    p = g_new0(struct point, 1);
    sim_server_copy(s, &p->host);
    p->where = g_strdup(where);
    if (is_new(p))
        g_ptr_array_add(t.points, p);
    else
        point_free(p);
}

static const struct sim_host *host_at(unsigned k)
{
    return &((struct point *)t.points->pdata[k])->host;
}

static void check_points(void)
{
    for (unsigned k = 0; k < t.points->len; k++) {
        struct point *p = t.points->pdata[k];

        sim_note("died at point %u: %s", k, p->where);
        sim_check(&p->host, SIM_POWER, t.seed++, &t.options);
        if (k % 2 && !t.parts)
            continue; /* the default run has little time */
        if (k == 0 || !sim_same(host_at(k - 1), &p->host, SIM_PROCESS))
            sim_check(&p->host, SIM_PROCESS, t.seed, &t.options);
        if (t.seed % 3 == 0)
            sim_check(&p->host, SIM_UNMOUNTED + t.seed / 3 % 3, t.seed / 9, &t.options);
    }
    g_ptr_array_set_size(t.points, 0);
}

/* False: one of the steps does not apply. */
static bool run(const unsigned *steps, unsigned n)
{
    g_autofree struct sim_run *r = g_new0(struct sim_run, 1);
    bool applies = true;

    sim_note(NULL);
    for (unsigned k = 0; k < n; k++)
        sim_note("%s", sim_steps[steps[k]].name);
    sim_world_enter();
    t.last_step = n == 0;
    sim_run_begin(r, &t.base, &t.options);
    for (unsigned k = 0; k < n && applies; k++) {
        t.last_step = k == n - 1;
        applies = sim_steps[steps[k]].take(r);
    }
    if (applies) {
        note_point(NULL, r->server, "the end");
        check_points();
        t.sequences++;
    }
    g_ptr_array_set_size(t.points, 0);
    t.last_step = false;
    sim_run_end(r);
    sim_world_leave();
    return applies;
}

/* Is the sequence to be looked at? A part takes the short ones that it goes through, too. */
static bool is_mine(const unsigned *steps, unsigned n)
{
    if (!t.parts)
        return n <= ALL_LENGTH;
    return n != ALL_LENGTH || (steps[0] * sim_n_steps + steps[1]) % t.parts == t.part;
}

static void all_from(unsigned *steps, unsigned n)
{
    for (unsigned k = 0; k < sim_n_steps; k++) {
        steps[n] = k;
        if (is_mine(steps, n + 1) && run(steps, n + 1) && n + 1 < LENGTH)
            all_from(steps, n + 1);
    }
}

static void test_all(void)
{
    unsigned steps[LENGTH] = {0};

    if (!t.parts)
        run(steps, 0);
    all_from(steps, 0);
    g_test_message("%u sequences", t.sequences);
    sim_counts_end(t.parts ? 1 : LEAST_ALL);
}

/* Longer ones, of which the default run takes some. */
static void test_sample(void)
{
    t.sequences = 0;
    for (unsigned tried = 0; tried < SAMPLE; tried++) {
        unsigned steps[LENGTH], length = ALL_LENGTH + 1 + tried % (LENGTH - ALL_LENGTH);

        for (unsigned k = 0; k < length; k++)
            steps[k] = (unsigned)g_rand_int_range(t.rand, 0, (int)sim_n_steps);
        run(steps, length);
    }
    g_test_message("%u sequences", t.sequences);
    sim_counts_end(LEAST_SAMPLE);
}

static void read_part(void)
{
    const char *part = g_getenv("FLEECE_SIM_PART");

    if (part && (sscanf(part, "%u/%u", &t.part, &t.parts) != 2 || t.part >= t.parts))
        g_error("FLEECE_SIM_PART is not P/N: %s", part);
}

int main(int argc, char **argv)
{
    const char *seed = g_getenv("FLEECE_SIM_SEED");

    g_test_init(&argc, &argv, NULL);
    if (!g_getenv("FLEECE_SIM_LOG"))
        log_set_target(LOG_TO_NULL);
    sim_threads_begin();
    t.seed = seed ? (uint32_t)strtoul(seed, NULL, 10) : 1;
    read_part();
    t.rand = g_rand_new_with_seed(t.seed);
    t.points = g_ptr_array_new_with_free_func(point_free);
    t.options = (struct sim_options){.power = true};
    sim_base_new(&t.base, &t.options);
    t.options.at = note_point;
    g_test_add_func("/sim/all", test_all);
    g_test_add_func("/sim/sample", test_sample);
    return g_test_run();
}
