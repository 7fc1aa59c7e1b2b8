/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NBD_TRANSMISSION_H
#define NBD_TRANSMISSION_H

#include "server/nbd/connection.h"

/* Carry out the client's requests, to the end. The connection's thread. */
void transmission(struct connection *c);
/* A worker's way to carry out a job; for connection_new. */
void transmission_run_job(void *connection, struct worker_job *job);

#endif
