/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The machine that a simulated server runs on, as far as it outlives the server: which boot this is,
 * the memory folder of common/state/memory.h, and the note of common/state/note.h. A test that links with $(links_sim_ldflags) has the
 * product's questions answered by the present machine.
 */
#ifndef TESTS_RIGS_SIM_MACHINE_H
#define TESTS_RIGS_SIM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct storage;

struct sim_machine {
    unsigned boot, id;      /* from 1 */
    struct storage *memory; /* the files of the memory folder, a reference; NULL: it is not there */
    uint64_t run;           /* of it */
    uint64_t catalogue;     /* its note: how far the catalogue was */
    bool failed, incomplete, unsynced; /* its note says so */
    bool lasting;                      /* the note that outlives the boot is there */
};

/* From now on it is this one; it stays the caller's, and changes as the server notes things. Returns
 * which one it was. */
struct sim_machine *sim_machine_use(struct sim_machine *m);
/* A new boot: the memory is gone. */
void sim_machine_reboot(struct sim_machine *m);
void sim_machine_clear(struct sim_machine *m);
/* The machine has a copy of the memory that it shares with another one. */
void sim_machine_unshare(struct sim_machine *m);

#endif
