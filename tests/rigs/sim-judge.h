/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a crash leaves is recovered, and judged:
 *
 *   superset   a unit that was changed is dirty, or the bitmap is inconsistent and something had failed
 *   atomic     each command has happened on all disks or on none; one that was answered has
 *   exact      where the memory folder is still there, no unit is dirty that no write was issued for;
 *              after another death such units are in regions that the journal had open
 */
#ifndef TESTS_RIGS_SIM_JUDGE_H
#define TESTS_RIGS_SIM_JUDGE_H

#include "tests/rigs/sim-report.h"
#include "tests/rigs/sim-server.h"

#define SIM_REGIONS ((SIM_IMAGE_MOST >> JOURNAL_REGION_SHIFT) + 1)

/* What may be found. */
struct sim_allowance {
    /* Regions in which bits may be dirty without a reason. */
    bool open[SIM_DISKS][SIM_REGIONS];
    bool any;  /* in all of them */
    bool lost; /* bitmaps that record may be inconsistent */
};

/* Judge what a server has found. The host's model becomes what has come true: where bits are dirty
 * without a reason, they may be from now on. */
void sim_judge(struct sim_server *s, enum sim_death death, const struct sim_allowance *allowed);

#endif
