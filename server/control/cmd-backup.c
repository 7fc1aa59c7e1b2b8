/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backup-begin (as an action), backup-renew, backup-end, query-backups.
 */
#include "server/control/control-private.h"

const struct qmp_command backup_commands[] = {
    {.name = NULL},
};
