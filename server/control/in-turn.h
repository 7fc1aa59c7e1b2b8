/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands, other than transactions, that have a turn on disks (server/registry/turn.h). */
#ifndef CONTROL_IN_TURN_H
#define CONTROL_IN_TURN_H

#include "server/control/qmp.h"
#include "server/registry/turn.h"

struct server;

/* Wait for the command's turn on the disks that `disks` adds to the array, then call `run`, which
 * ends the turn and answers the call, at once or later. If the command's arguments mean other disks
 * by then, it waits for a turn on these. If there is no turn to be had, the call fails. Main
 * thread. */
void control_run_in_turn(struct qmp_call *call,
                         void (*disks)(struct qmp_call *call, GPtrArray *disks),
                         void (*run)(struct qmp_call *call, struct turn *turn));

/* End the turn and answer: `error` is NULL, or an error, which is freed. */
void control_end_turn(struct qmp_call *call, struct turn *turn, GError *error);

/* Add the disk of that name, or the disk of the view of that name, if there is one. */
void control_add_disk(struct server *s, const char *node, GPtrArray *disks);

#endif
