/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands, other than transactions, that have a turn on disks (server/registry/turn.h). */
#ifndef CONTROL_IN_TURN_H
#define CONTROL_IN_TURN_H

#include "server/control/qmp.h"
#include "server/registry/turn.h"

struct server;

/* Call `run` when it is the command's turn on what `disks` adds to the array for its arguments. If
 * that has changed while it waited, it waits again. `run` ends the turn and answers the call, at
 * once or later. If there is no turn, the call fails. */
void control_run_in_turn(struct qmp_call *call,
                         void (*disks)(struct server *s, JsonObject *args, GPtrArray *disks),
                         void (*run)(struct qmp_call *call, struct turn *turn));

/* End the turn and answer: *err is NULL, or an error, which is freed. */
void control_end_turn(struct qmp_call *call, struct turn *turn, GError *error);

/* Add the disk of that name, or the disk of the view of that name, if there is one. */
void control_add_disk(struct server *s, const char *node, GPtrArray *disks);

#endif
