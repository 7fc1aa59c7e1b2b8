/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a crash leaves is recovered, and judged:
 *
 *   superset   a unit that was changed is dirty, or the bitmap is inconsistent and something had failed
 *   atomic     each command has happened on all disks or on none; one that was answered has
 *   exact      after the process's death, no unit is dirty that no write was issued for; after a power
 *              loss such units are in regions that the journal had open
 */
#ifndef TESTS_RIGS_SIM_CHECK_H
#define TESTS_RIGS_SIM_CHECK_H

#include "tests/rigs/sim-server.h"

enum sim_death { SIM_PROCESS, SIM_POWER };

#define SIM_REGIONS ((SIM_IMAGE_MOST >> JOURNAL_REGION_SHIFT) + 1)

/* Regions in which bits may be dirty without a reason. */
struct sim_allowance {
    bool open[SIM_DISKS][SIM_REGIONS];
    bool any; /* in all of them */
};

struct sim_counts {
    uint64_t process, power, again; /* crashes; of these during a recovery */
    uint64_t found, inconsistent;   /* bitmaps */
    uint64_t over, marked; /* bytes after power losses: dirty without a reason, and with one */
};
extern struct sim_counts sim_counts;
/* Print them as a line of TAP. */
void sim_counts_print(void);

/* Something is wrong: print what, and all of sim_note, and abort. */
_Noreturn void sim_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* What was done so far, for that; NULL: begin anew. */
void sim_note(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Make of a copy (sim_server_copy) what the death leaves; the clock goes on. */
void sim_die(struct sim_host *h, enum sim_death death, uint32_t seed,
             struct sim_allowance *allowed);
/* Judge what a server has found. The host's model becomes what has come true: where bits are dirty
 * without a reason, they may be from now on. */
void sim_judge(struct sim_server *s, enum sim_death death, const struct sim_allowance *allowed);

/* Die, recover, judge, end, in a world of its own. Where the seed says so, recovery dies once more at
 * some operation, and the server that has ended in order is started again. The copy stays as it is.
 */
void sim_check(const struct sim_host *copy, enum sim_death death, uint32_t seed,
               const struct sim_options *options);

#endif
