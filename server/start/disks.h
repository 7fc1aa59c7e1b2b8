/* SPDX-License-Identifier: BSD-3-Clause */
/* From the disks of the command line to plugins that are configured, in nbdkit's order of calls. */
#ifndef START_DISKS_H
#define START_DISKS_H

#include "server/backend/plugin.h"
#include "server/start/options.h"

enum plugins_until {
    PLUGINS_LOAD,      /* --help, --version: mapped, with their debug flags */
    PLUGINS_CONFIGURE, /* --dump-plugin: told their configuration */
    PLUGINS_GET_READY, /* configured in full, ready but for what must come after a fork */
};

/* A plugin for each disk, in order: struct backend, not freed with the array. NULL and *err. */
GPtrArray *plugins_load(const struct options *o, enum plugins_until until, GError **err);

/* After plugins_load until PLUGINS_GET_READY, before the change of user: see plugin_open_ahead. */
int plugins_open_ahead(GPtrArray *backends, bool readonly, GError **err);

/* End those plugins (entries that are NULL have been given away). Does not free the array. */
void plugins_free(GPtrArray *backends);

#endif
