/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections to NBD servers, made and driven with libnbd so that no server can hold up its client
 * for ever: every wait has an end, and descriptors that end it sooner. (Only the look-up of a host's
 * name is the resolver's, which has limits of its own.) One thread for each connection.
 */
#ifndef COMMON_COPY_NBD_LINK_H
#define COMMON_COPY_NBD_LINK_H

#include "common/copy/nbd-error.h"

#include <libnbd.h>
#include <stdbool.h>
#include <stdint.h>

#define NBD_LINK_ALLOCATION "base:allocation"

/* Time that a connection may take to come about, microseconds. */
#define NBD_LINK_TIME (30 * INT64_C(1000000))

/* What ends a wait, beside that for which one waits. */
struct nbd_link_wait {
    int stop[2];   /* descriptors that are readable then; -1: none */
    int64_t until; /* common/base/deadline.h; 0: never */
};

struct nbd_link_options {
    const char *uri;
    const char *context; /* a meta context that the export must have; NULL: none */
    bool allocation;     /* ask for base:allocation, too */
};

/* What the server says of the export. */
struct nbd_link_facts {
    uint64_t size;   /* bytes */
    uint32_t align;  /* of requests: its least block, or what suits any server */
    uint32_t max;    /* longest read or write, bytes: a multiple of align, at most 32 MiB */
    bool allocation; /* base:allocation has been negotiated */
    bool multi_conn; /* a flush on one connection is for all */
    bool read_only, can_flush, can_trim, can_zero;
};

/* Connect, and negotiate up to the transmission phase. The URI may name files of certificates and
 * keys: it comes from the user, or from a server that the user trusts. NULL and *err, which does not
 * show the URI. */
struct nbd_handle *nbd_link_open(const struct nbd_link_options *o, const struct nbd_link_wait *w,
                                 GError **err);
/* Say goodbye, as far as that goes without waiting, and free it. NULL is fine. */
void nbd_link_close(struct nbd_handle *nbd);

int nbd_link_facts(struct nbd_handle *nbd, struct nbd_link_facts *facts, GError **err);

/* Wait until the server sends something or takes something, and let libnbd go on. 0; 1: a
 * descriptor of `stop` is readable; -1 and *err: it is time, or the connection has ended. */
int nbd_link_step(struct nbd_handle *nbd, const struct nbd_link_wait *w, GError **err);

/* Pause until a descriptor of `stop` is readable: 1; 0: it is time. */
int nbd_link_pause(const struct nbd_link_wait *w);

#endif
