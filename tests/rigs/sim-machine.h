/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The machine that a simulated server runs on, as far as it outlives the server: which boot and mount
 * this is, and the notes of common/state/note.h. A test that links with $(links_sim_ldflags) has the
 * product's questions answered by the present machine.
 */
#ifndef TESTS_RIGS_SIM_MACHINE_H
#define TESTS_RIGS_SIM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct sim_machine {
    unsigned boot, mount, id; /* from 1 */
    bool noted, failed;       /* the note in /dev/shm is there; it says that something failed */
    bool lasting;             /* the note that outlives the boot is there */
};

/* From now on it is this one; it stays the caller's, and changes as the server notes things. Returns
 * which one it was. */
struct sim_machine *sim_machine_use(struct sim_machine *m);
/* A new boot. */
void sim_machine_reboot(struct sim_machine *m);
/* Another machine, which knows nothing of what this one has noted. */
void sim_machine_move(struct sim_machine *m);

#endif
