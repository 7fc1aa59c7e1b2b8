/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listening sockets and the thread that accepts from them. Private to nbd/.
 */
#ifndef NBD_LISTENER_H
#define NBD_LISTENER_H

#include "server/nbd/nbd-server.h"

/* One listening socket and its clients. */
struct port {
    struct nbd_listener *listener;
    int fd;
    unsigned n_clients;   /* the server's lock */
    unsigned n_placed;    /* the same: those of them that have an export's place, see clients.h */
    int64_t paused_until; /* the accepting thread's; g_get_monotonic_time, 0: not paused */
};

/* A client has gone: there is room. Any thread, the server's lock held. */
void listener_wake(struct nbd_listener *l);
struct nbd_server *listener_server(const struct nbd_listener *l);
enum export_scope listener_scope(const struct nbd_listener *l);
unsigned listener_max_connections(const struct nbd_listener *l);
unsigned listener_handshake_timeout(const struct nbd_listener *l); /* seconds, 0: none */
/* End the accepting thread and close the sockets; clients stay. May be called again. */
void listener_stop_accepting(struct nbd_listener *l);

#endif
