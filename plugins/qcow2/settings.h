/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the qcow2 plugin is told by its configuration. Filled in by one thread before anything is
 * opened, and not changed after that.
 */
#ifndef PLUGINS_QCOW2_SETTINGS_H
#define PLUGINS_QCOW2_SETTINGS_H

#include "common/live/live.h"

struct settings {
    char *path; /* absolute; NULL: not told */
    struct live_options live;
    char **allow; /* live.open.allow, absolute */
    unsigned n_allow;
    char *backing, *backing_format, *data_file, *snapshot; /* those of live.open */
};

#define SETTINGS_INIT                                                                              \
    {                                                                                              \
        .live = LIVE_OPTIONS_INIT                                                                  \
    }

/* All return 0, or -1 after nbdkit_error. */
int settings_config(struct settings *s, const char *key, const char *value);
int settings_check(const struct settings *s);
void settings_free(struct settings *s);

#endif
