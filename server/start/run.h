/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of the server: start-up in nbdkit's order, service, orderly end. */
#ifndef START_RUN_H
#define START_RUN_H

#include "server/start/options.h"

/* Serve what `o` says until somebody wants it to end. Returns the exit code; an error has been
 * logged. `parent` is getppid() at the start of the program. */
int run_server(const struct options *o, int parent);

#endif
