/* SPDX-License-Identifier: BSD-3-Clause */
/* Deaths of a simulated server, and the recovery of what they leave. */
#ifndef TESTS_RIGS_SIM_CHECK_H
#define TESTS_RIGS_SIM_CHECK_H

#include "tests/rigs/sim-judge.h"

/* Would the death leave the same at both moments? Two copies (sim_server_copy) of one run. */
bool sim_same(const struct sim_host *a, const struct sim_host *b, enum sim_death death);
/* Make of a copy what the death of a server with these options leaves; the clock goes on. Returns which
 * death it amounts to: where there was no memory folder, it is gone. */
enum sim_death sim_die(struct sim_host *h, enum sim_death death, uint32_t seed,
                       const struct sim_options *options, struct sim_allowance *allowed);

/* Die, recover, judge, end, in a world of its own. Where the seed says so, recovery dies once more at
 * some operation; the server that has ended in order is started again; the memory folder that was gone
 * comes back, after another server without it has used the folder. The copy stays as it is. */
void sim_check(const struct sim_host *copy, enum sim_death death, uint32_t seed,
               const struct sim_options *options);

#endif
