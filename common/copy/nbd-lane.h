/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lane of an NBD source or target: a thread that owns one connection, sends what it is given and
 * takes in the answers, so that nobody has to drive the connection while he works with what he has.
 * If the server goes away it connects anew, and asks again for what was not answered.
 */
#ifndef COMMON_COPY_NBD_LANE_H
#define COMMON_COPY_NBD_LANE_H

#include "common/copy/nbd-link.h"
#include "common/copy/nbd-request.h"

struct nbd_lane;

/* Some requests. The caller's, who fills in `requests` and `n`; in the lane's hands from
 * nbd_lane_start to nbd_lane_wait. */
struct nbd_batch {
    struct nbd_request *requests;
    size_t n;

    struct nbd_lane *lane;
    /* under the lane's lock */
    size_t left;   /* requests that are not done */
    GError *error; /* the first */
};

struct nbd_lane_options {
    struct nbd_link_options link; /* its strings are lent until nbd_lane_free */
    struct nbd_link_facts facts;  /* of the export; the server may not come back with others */
    unsigned retry;               /* seconds */
    bool trim;                    /* ranges will be trimmed: it must stay a view */
};

/* Start a thread for a connection, which the lane takes over in any case. NULL and *err. */
struct nbd_lane *nbd_lane_new(const struct nbd_lane_options *o, struct nbd_handle *nbd,
                              GError **err);
/* No batch is under way. NULL is fine. */
void nbd_lane_free(struct nbd_lane *l);

/* These four from any thread. */
void nbd_lane_start(struct nbd_lane *l, struct nbd_batch *b);
/* Wait until all requests are done, well or not; also after nbd_lane_cancel. 0, or -1 and *err. */
int nbd_lane_wait(struct nbd_lane *l, struct nbd_batch *b, GError **err);
/* Let all requests fail soon, now and later. */
void nbd_lane_cancel(struct nbd_lane *l);
/* Has anything been written that no flush has made durable? */
bool nbd_lane_is_unflushed(struct nbd_lane *l);

#endif
