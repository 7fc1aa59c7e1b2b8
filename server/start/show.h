/* SPDX-License-Identifier: BSD-3-Clause */
/* The options that tell something and end: --help, --version, --dump-config, --dump-plugin, ... */
#ifndef START_SHOW_H
#define START_SHOW_H

#include "server/start/options.h"

/* Do what o->action, which is not ACTION_SERVE, asks for. Returns the exit code; an error has been
 * logged. */
int show_information(const struct options *o);

#endif
