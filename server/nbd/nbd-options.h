/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the administrator chooses about NBD, the same for all listeners.
 */
#ifndef NBD_NBD_OPTIONS_H
#define NBD_NBD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct tls_credentials;

struct nbd_options {
    const struct tls_credentials *tls; /* NULL: no TLS. Outlives the server. */
    bool tls_required;                 /* a client that does not use it is told nothing */
    unsigned handshake_timeout;        /* seconds, 0: none */
    unsigned max_connections;          /* of an export on a listening socket, 0: no limit */
    unsigned threads;                  /* most workers of one connection (-t) */
    unsigned poll_max_ns;              /* longest look for a request before sleeping, 0: none */
    uint16_t mask_handshake;           /* --mask-handshake: AND of the handshake flags */
    bool no_structured_replies;        /* --no-sr */
    bool no_meta_contexts;             /* --no-mc */
    bool no_extended_headers;          /* --no-eh */
    bool keepalive;                    /* of TCP, on the sockets of clients */
};

#endif
