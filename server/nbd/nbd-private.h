/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What all connections share. Private to nbd/; types only.
 */
#ifndef NBD_NBD_PRIVATE_H
#define NBD_NBD_PRIVATE_H

#include "common/util/log-limit.h"
#include "server/nbd/busy-poll.h"
#include "server/nbd/clients.h"
#include "server/nbd/nbd-options.h"

/* Lines that clients can cause without end. */
struct nbd_log_limits {
    struct log_limit refused; /* clients that cannot be served */
    struct log_limit tls;     /* TLS that has failed */
    struct log_limit memory;  /* requests that there is no memory for */
    struct log_limit workers; /* threads that cannot be had */
};

struct nbd_server {
    struct server *registry;
    struct nbd_options options;
    unsigned
        send_seconds; /* without progress, after which a client that does not read is dropped */
    struct poll_budget poll_budget;
    struct nbd_log_limits log;
    struct nbd_clients clients;
    GPtrArray *listeners; /* the control thread's */
};

#endif
