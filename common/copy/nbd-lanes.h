/* SPDX-License-Identifier: BSD-3-Clause */
/* The lanes of an NBD source or target: as many connections as the server lets be used together. */
#ifndef COMMON_COPY_NBD_LANES_H
#define COMMON_COPY_NBD_LANES_H

#include "common/copy/nbd-lane.h"

/* Longest range that is asked for without its data at once: a power of two, so that it suits any
 * block size, and the largest that fits into the 32 bits of NBD's plain headers. */
#define NBD_LANES_RANGE (UINT64_C(1) << 31)

struct nbd_lanes {
    unsigned n;
    struct nbd_lane **lane;
    struct nbd_link_facts facts;
};

struct nbd_lanes_options {
    struct nbd_link_options link; /* its strings are lent until nbd_lanes_close */
    unsigned connections;         /* most; 0: 4. One where the server does not offer multi-conn. */
    unsigned retry;               /* seconds in which a server that has gone has to come back */
    bool trim;                    /* ranges will be trimmed */
    bool awaited;  /* the server is known to be there: `retry` is for the first connection, too */
    int interrupt; /* a descriptor that ends connecting when it is readable; 0: none */
};

/* Connect. `l` is zeroed. -1 and *err; nbd_lanes_close in any case. */
int nbd_lanes_open(struct nbd_lanes *l, const struct nbd_lanes_options *o, GError **err);
void nbd_lanes_close(struct nbd_lanes *l);
void nbd_lanes_cancel(struct nbd_lanes *l); /* nbd_lane_cancel; any thread */

/* Trim or zero a range of any length, and wait. 0, or -1 and *err. */
int nbd_lanes_range(struct nbd_lanes *l, unsigned lane, enum nbd_request_kind kind, uint64_t offset,
                    uint64_t length, GError **err);

#endif
