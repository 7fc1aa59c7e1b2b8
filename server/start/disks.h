/* SPDX-License-Identifier: BSD-3-Clause */
/* From the disks of the command line to plugins that are configured, in nbdkit's order of calls. */
#ifndef START_DISKS_H
#define START_DISKS_H

#include "server/backend/plugin.h"
#include "server/start/options.h"

enum disks_until {
    DISKS_LOAD,      /* --help, --version: mapped, with their debug flags */
    DISKS_CONFIGURE, /* --dump-plugin: told their configuration */
    DISKS_GET_READY, /* configured in full, ready but for what must come after a fork */
};

/* A plugin for each disk, in order: struct backend, not freed with the array. NULL and *err. */
GPtrArray *disks_load(const struct options *o, enum disks_until until, GError **err);

/* After disks_load until DISKS_GET_READY, before the change of user: see plugin_open_ahead. */
int disks_open_ahead(GPtrArray *backends, bool readonly, GError **err);

/* End those plugins (entries that are NULL have been given away). Does not free the array. */
void disks_free(GPtrArray *backends);

#endif
