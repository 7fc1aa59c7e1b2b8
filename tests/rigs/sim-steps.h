/* SPDX-License-Identifier: BSD-3-Clause */
/* The steps that sequences of the simulation are made of. */
#ifndef TESTS_RIGS_SIM_STEPS_H
#define TESTS_RIGS_SIM_STEPS_H

#include "tests/rigs/sim-check.h"

/* A guest's write waits for the folder 5 s, and for its failure to be noted somewhere else. */
#define SIM_MOST_WAIT INT64_C(8000000000)

/* What a run has, beside its host. */
struct sim_run {
    struct sim_host host;
    struct sim_options options;
    struct sim_server *server;
    bool failing; /* the storage fails: commands may fail */
    bool failed;  /* one has: the model may be either of two */
};

/* A host with a folder in which the bitmaps x of the first disk and y of the second one are, with some
 * dirty units; nobody uses it. */
void sim_base_new(struct sim_host *base, const struct sim_options *options);
/* Start a server on a copy of the base. */
void sim_run_begin(struct sim_run *r, const struct sim_host *base, const struct sim_options *o);
void sim_run_end(struct sim_run *r);
/* The server dies, and another one goes on with what is left: `left` (sim_server_copy), which is taken
 * over. */
void sim_run_die(struct sim_run *r, struct sim_host *left, enum sim_death death, uint32_t seed);
/* A write of some blocks anywhere. */
void sim_run_write(struct sim_run *r, GRand *rand);

struct sim_step {
    const char *name;
    /* False: it does not apply, and nothing has changed. */
    bool (*take)(struct sim_run *r);
};
extern const struct sim_step sim_steps[];
extern const unsigned sim_n_steps;

#endif
