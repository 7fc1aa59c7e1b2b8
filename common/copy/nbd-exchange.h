/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests on one connection after the other: each is asked until it is answered. No request is
 * forgotten and none is done twice. One thread.
 */
#ifndef COMMON_COPY_NBD_EXCHANGE_H
#define COMMON_COPY_NBD_EXCHANGE_H

#include "common/copy/nbd-link.h"
#include "common/copy/nbd-request.h"

/* A request is done, with an error (which is taken over) or NULL. Called within nbd_exchange_step;
 * from here on nothing touches the request or its buffer. */
typedef void (*nbd_request_done)(struct nbd_request *r, GError *error);

struct nbd_exchange;

/* `context` is the one whose flag 1 is dirty, or NULL; `allocation`: base:allocation is of use. */
struct nbd_exchange *nbd_exchange_new(const char *context, bool allocation, nbd_request_done done);
void nbd_exchange_free(struct nbd_exchange *x); /* NULL is fine; no requests are left */

/* Take over a request. */
void nbd_exchange_add(struct nbd_exchange *x, struct nbd_request *r);
/* Give one back that has not been done. NULL: there is none. Between connections. */
struct nbd_request *nbd_exchange_take(struct nbd_exchange *x);
bool nbd_exchange_is_idle(const struct nbd_exchange *x); /* there are no requests */

/* Go on with this connection, which is lent. */
void nbd_exchange_begin(struct nbd_exchange *x, struct nbd_handle *nbd);
/* Send, wait, and take in what has come. 0, also where a descriptor of `stop` is readable; 1: a
 * connection is needed that is negotiated anew (nbd_exchange_wants_allocation); -1 and *err: this
 * one has ended, or (SOURCE_NBD_ERROR_FAILED) the server is of no use. */
int nbd_exchange_step(struct nbd_exchange *x, const struct nbd_link_wait *w, GError **err);
/* The connection has been closed: what was asked on it and not answered is to be asked anew. */
void nbd_exchange_end(struct nbd_exchange *x);

/* Has a request been answered since the last call? */
bool nbd_exchange_was_answered(struct nbd_exchange *x);
/* Is base:allocation still of use? No, where a server has refused to tell extents. */
bool nbd_exchange_wants_allocation(const struct nbd_exchange *x);
/* Has anything been written that no flush has made durable? */
bool nbd_exchange_is_unflushed(const struct nbd_exchange *x);

#endif
