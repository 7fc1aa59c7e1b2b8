/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Serving a client: a thread that goes through the handshake and the transmission phase. Private to
 * nbd/.
 */
#ifndef NBD_SERVE_H
#define NBD_SERVE_H

#include "server/nbd/nbd-private.h"

/* Begin serving a client. Takes over the descriptors, on failure too. Any thread. `port` may be
 * NULL; else its n_clients has been raised for this client and is lowered when it has gone. `done`,
 * if not NULL, is called from the client's thread when its descriptors are closed. 0, or -1 and
 * *err, and `done` is not called. */
int serve_start(struct nbd_server *n, struct port *port, int in, int out,
                void (*done)(void *opaque), void *opaque, GError **err);
/* Join the threads of the clients that have ended. Any thread but those. */
void serve_reap(struct nbd_server *n);

#endif
