/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NBD server as the rest of the server sees it: listeners that serve the registry's exports.
 */
#ifndef NBD_NBD_SERVER_H
#define NBD_NBD_SERVER_H

#include "server/registry/registry.h"

struct tls_credentials;

struct nbd_options {
    const struct tls_credentials *tls; /* NULL: no TLS. Outlives the server. */
    bool tls_required;                 /* nothing is told to who does not use it */
    unsigned handshake_timeout;        /* seconds, 0: none */
    unsigned max_connections;          /* of an export on a listening socket, 0: none */
    unsigned threads;                  /* most workers of one connection (-t) */
    unsigned poll_max_ns;              /* longest look for a request before sleeping, 0: none */
    uint16_t mask_handshake;           /* --mask-handshake: AND of the handshake flags */
    bool no_structured_replies;        /* --no-sr */
    bool no_meta_contexts;             /* --no-mc */
    bool no_extended_headers;          /* --no-eh */
    bool keepalive;                    /* of TCP, on the sockets of clients */
};

struct nbd_server;   /* all listeners and connections */
struct nbd_listener; /* one or more listening sockets that began and end together */

struct nbd_server *nbd_server_new(struct server *s, const struct nbd_options *options);
/* Ends in order: no new clients; requests under way finish, later ones get ESHUTDOWN; connections
 * not gone within `grace_ms` are cut. Returns when all threads have ended. Control thread. */
void nbd_server_free(struct nbd_server *n, unsigned grace_ms);

/* Serve already listening sockets, from now on. Takes over the descriptors. The
 * timeout and the limit are as in nbd_options, for this listener (QMP may differ from the command
 * line). */
struct nbd_listener *nbd_listen(struct nbd_server *n, enum export_scope scope, const int *fds,
                                unsigned n_fds, unsigned handshake_timeout,
                                unsigned max_connections, GError **err);
/* Stop listening and cut the listener's clients; returns when they are gone. Control thread. */
void nbd_listener_stop(struct nbd_listener *l);
unsigned nbd_listener_clients(struct nbd_listener *l);

/* Serve one client on a pair of descriptors (-s: 0 and 1), in a thread; `done` is called from it
 * when the client has gone. */
int nbd_serve_stdio(struct nbd_server *n, int in, int out, void (*done)(void *opaque), void *opaque,
                    GError **err);

/* Open listening sockets. Appends descriptors to `fds` (GArray of int). host NULL: all addresses;
 * port: see common/util/port.h;
 * family AF_UNSPEC, AF_INET (-4) or AF_INET6 (-6). For Unix sockets the file must not exist (a
 * stale one that nobody listens on is replaced). selinux_label may be NULL. */
int nbd_open_tcp(const char *host, const char *port, int family, GArray *fds, GError **err);
int nbd_open_unix(const char *path, const char *selinux_label, GArray *fds, GError **err);

#endif
