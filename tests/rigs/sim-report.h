/* SPDX-License-Identifier: BSD-3-Clause */
/* What a simulation has done so far: counts of its deaths, and notes for whoever looks at a failure. */
#ifndef TESTS_RIGS_SIM_REPORT_H
#define TESTS_RIGS_SIM_REPORT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* In order of what is lost. */
enum sim_death {
    SIM_PROCESS,   /* it died */
    SIM_UNMOUNTED, /* and the folder's file system has lost what was not synced */
    SIM_FORGOT,    /* it died, and the memory folder is gone */
    SIM_MOVED,     /* it died, and another machine goes on with the folder and the images */
    SIM_POWER,     /* the machine did */
};
const char *sim_death_name(enum sim_death death);
/* The memory folder has all bits. */
static inline bool sim_is_exact(enum sim_death death)
{
    return death <= SIM_UNMOUNTED;
}

/* Since the last sim_counts_end. */
struct sim_counts {
    uint64_t crashes[SIM_POWER + 1]; /* by death */
    uint64_t again;                  /* of these during a recovery */
    uint64_t found, inconsistent;    /* bitmaps */
    /* Bytes where something was lost: dirty without a reason, and with one. */
    uint64_t over, marked;
};
extern struct sim_counts sim_counts;
/* Print them as a line of TAP, and begin anew. There must have been so many crashes at least. */
void sim_counts_end(uint64_t least);

/* Something is wrong: print what, and all of sim_note, and abort. */
_Noreturn void sim_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* What was done so far, for that; NULL: begin anew. */
void sim_note(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* How much that is; to forget all that came later. */
size_t sim_notes(void);
void sim_notes_cut(size_t length);

#endif
