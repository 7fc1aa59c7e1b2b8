/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a crash leaves is recovered, and judged:
 *
 *   superset   a unit that was changed is dirty, or the bitmap is inconsistent and something had failed
 *   atomic     each command has happened on all disks or on none; one that was answered has
 *   exact      where the memory folder is still there, no unit is dirty that no write was issued for;
 *              after another death such units are in regions that the journal had open
 */
#ifndef TESTS_RIGS_SIM_CHECK_H
#define TESTS_RIGS_SIM_CHECK_H

#include "tests/rigs/sim-server.h"

/* In order of what is lost. */
enum sim_death {
    SIM_PROCESS,   /* it died */
    SIM_UNMOUNTED, /* and the folder's file system has lost what was not synced */
    SIM_FORGOT,    /* it died, and the memory folder is gone */
    SIM_MOVED,     /* it died, and another machine goes on with the folder and the images */
    SIM_POWER,     /* the machine did */
};

#define SIM_REGIONS ((SIM_IMAGE_MOST >> JOURNAL_REGION_SHIFT) + 1)

/* What may be found. */
struct sim_allowance {
    /* Regions in which bits may be dirty without a reason. */
    bool open[SIM_DISKS][SIM_REGIONS];
    bool any;  /* in all of them */
    bool lost; /* bitmaps that record may be inconsistent */
};

/* Since the last sim_counts_end. */
struct sim_counts {
    uint64_t crashes[SIM_POWER + 1]; /* by death */
    uint64_t again;                  /* of these during a recovery */
    uint64_t found, inconsistent;    /* bitmaps */
    uint64_t over,
        marked; /* bytes where something was lost: dirty without a reason, and with one */
};
extern struct sim_counts sim_counts;
/* Print them as a line of TAP, and begin anew. There must have been so many crashes at least. */
void sim_counts_end(uint64_t least);

/* Something is wrong: print what, and all of sim_note, and abort. */
_Noreturn void sim_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* What was done so far, for that; NULL: begin anew. */
void sim_note(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Would the death leave the same at both moments? Two copies (sim_server_copy) of one run. */
bool sim_same(const struct sim_host *a, const struct sim_host *b, enum sim_death death);
/* Make of a copy what the death of a server with these options leaves; the clock goes on. Returns which
 * death it amounts to: where there was no memory folder, it is gone. */
enum sim_death sim_die(struct sim_host *h, enum sim_death death, uint32_t seed,
                       const struct sim_options *options, struct sim_allowance *allowed);
/* Judge what a server has found. The host's model becomes what has come true: where bits are dirty
 * without a reason, they may be from now on. */
void sim_judge(struct sim_server *s, enum sim_death death, const struct sim_allowance *allowed);

/* Die, recover, judge, end, in a world of its own. Where the seed says so, recovery dies once more at
 * some operation; the server that has ended in order is started again; the memory folder that was gone
 * comes back, after another server without it has used the folder. The copy stays as it is. */
void sim_check(const struct sim_host *copy, enum sim_death death, uint32_t seed,
               const struct sim_options *options);

#endif
