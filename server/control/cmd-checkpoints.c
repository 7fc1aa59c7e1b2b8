/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checkpoint-create (as an action), checkpoint-delete, query-checkpoints.
 */
#include "server/control/control-private.h"

const struct qmp_command checkpoint_commands[] = {
    {.name = NULL},
};
