/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NBD server as the rest of the program sees it: listeners that serve the registry's exports.
 *
 * Nothing here waits for a client, whose plugin may not come back. Whoever asks for an end gives a
 * callback `done`, which tells that it has come. It is called once: from a client's thread, or from
 * within the call that asked. It must not wait, nor call the NBD server: it hops to its own loop.
 */
#ifndef NBD_NBD_SERVER_H
#define NBD_NBD_SERVER_H

#include "server/nbd/nbd-options.h"
#include "server/nbd/open-socket.h"
#include "server/registry/registry.h"

struct nbd_server;   /* all listeners and connections */
struct nbd_listener; /* one or more listening sockets that began and end together */

/* `s` outlives it; the options are copied. */
struct nbd_server *nbd_server_new(struct server *s, const struct nbd_options *options);

/* -- the end of all; control thread -- */

/* Begin the orderly end: no new clients; requests under way finish, later ones get ESHUTDOWN.
 * Listeners end too, and are not to be used any more. `done`: all clients have gone. */
void nbd_server_stop(struct nbd_server *n, void (*done)(void *opaque), void *opaque);
/* The grace has passed: cut the clients that are still there. Any time after nbd_server_stop and
 * before nbd_server_free. */
void nbd_server_cut(struct nbd_server *n);
/* The clients that have not ended, a sentence for each: who it is, which export and disk it uses,
 * and what it waits for. Array of char *, to be unref'ed. */
GPtrArray *nbd_server_left(struct nbd_server *n);
/* After `done`. Where clients are left for good nothing is freed: the process exits around them. */
void nbd_server_free(struct nbd_server *n);

/* -- listeners; control thread -- */

/* Serve sockets that listen already. Takes over the descriptors, on failure too. The timeout and
 * the limit are as in nbd_options, for this listener (QMP may differ from the command line). NULL
 * and *err on failure. */
struct nbd_listener *nbd_listen(struct nbd_server *n, enum export_scope scope, const int *fds,
                                unsigned n_fds, unsigned handshake_timeout,
                                unsigned max_connections, GError **err);
/* Stop listening and cut the listener's clients. `done` (NULL: nobody waits): they have gone. The
 * listener is not to be used any more; it frees itself. */
void nbd_listener_stop(struct nbd_listener *l, void (*done)(void *opaque), void *opaque);
/* How many clients it has. */
unsigned nbd_listener_clients(struct nbd_listener *l);

/* Serve one client on a pair of descriptors (-s: 0 and 1), in a thread; `done` is called from it
 * when the client has gone. Takes over the descriptors, on failure too. 0, or -1 and *err. */
int nbd_serve_stdio(struct nbd_server *n, int in, int out, void (*done)(void *opaque), void *opaque,
                    GError **err);

#endif
