/* SPDX-License-Identifier: BSD-3-Clause */
/* All commands: the tables of their families. */
#include "server/control/control-private.h"

const struct qmp_command *const control_commands[] = {
    qmp_negotiation,      server_commands,     node_commands,   bitmap_commands,
    transaction_commands, nbd_server_commands, export_commands, view_commands,
    checkpoint_commands,  backup_commands,     stats_commands,  NULL,
};
