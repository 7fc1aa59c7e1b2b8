/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The machine that a simulated server runs on, as far as it outlives the server: which boot this is,
 * the memory folder of common/state/memory.h, and the note of common/state/note.h. A test that links
 * with $(links_sim_ldflags) has the product's questions answered by the present machine.
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
    bool failed, incomplete; /* its note says so */
    bool lasting;            /* the note that outlives the boot is there */
    bool no_room;            /* for a memory folder */
};

/* From now on it is this one; it stays the caller's, and changes as the server notes things. Returns
 * which one it was. */
struct sim_machine *sim_machine_use(struct sim_machine *m);
/* A new boot: the memory is gone. */
void sim_machine_reboot(struct sim_machine *m);
/* Another machine, which knows nothing of what this one has noted. */
void sim_machine_move(struct sim_machine *m);
/* The memory is gone, and nothing else. */
void sim_machine_clear(struct sim_machine *m);
/* The machine has a copy of the memory that it shares with another one. */
void sim_machine_unshare(struct sim_machine *m);
/* Would a process find the same on both? Copies of one machine. */
bool sim_machine_same(const struct sim_machine *a, const struct sim_machine *b);

#endif
