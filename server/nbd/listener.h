/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listening sockets and the thread that accepts from them. Private to nbd/. Control thread.
 */
#ifndef NBD_LISTENER_H
#define NBD_LISTENER_H

#include "server/nbd/nbd-private.h"

struct nbd_listener;

/* As nbd_listen. */
struct nbd_listener *listener_new(struct nbd_server *n, enum export_scope scope, const int *fds,
                                  unsigned n_fds, unsigned handshake_timeout,
                                  unsigned max_connections, GError **err);
/* End the accepting thread and close the sockets; clients stay. May be called again. */
void listener_stop_accepting(struct nbd_listener *l);
/* The same, and cut the clients. When they have gone the listener is freed, and `done` (NULL: none)
 * called, once: from the last client's thread, or from here. */
void listener_stop(struct nbd_listener *l, void (*done)(void *opaque), void *opaque);
struct nbd_server *listener_server(struct nbd_listener *l);
/* As nbd_listener_clients. */
unsigned listener_clients(struct nbd_listener *l);

#endif
