/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients of exports that have hung up, or have not, and leave or stay. */
#ifndef TESTS_RIGS_LEAVER_H
#define TESTS_RIGS_LEAVER_H

#include "tests/rigs/control-rig.h"

#include <pthread.h>

/* A client of an export. One that `leaves` does so on a thread of its own, as a connection does, and
 * only after the registry has asked whether its peer has closed. */
struct leaver {
    struct export_client client;
    struct export *export;
    bool is_gone, leaves;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* asked */
    bool asked;             /* under lock */
    pthread_t thread;       /* if it leaves */
};

/* A client of the live export of that name. is_gone: its peer has closed. */
void leaver_begin(struct leaver *l, struct house *h, const char *name, bool is_gone, bool leaves);
/* Wait for its thread, or let one without a thread leave. */
void leaver_end(struct leaver *l);

/* Export vda writable, as "e". */
void add_export(struct house *h);

#endif
