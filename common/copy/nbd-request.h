/* SPDX-License-Identifier: BSD-3-Clause */
/* What is asked of an NBD server, and lists of such requests. Lists are their holder's. */
#ifndef COMMON_COPY_NBD_REQUEST_H
#define COMMON_COPY_NBD_REQUEST_H

#include "common/copy/nbd-map.h"

struct nbd_exchange;

enum nbd_request_kind {
    NBD_REQUEST_READ,
    NBD_REQUEST_WRITE,
    NBD_REQUEST_ZERO,
    NBD_REQUEST_TRIM,
    NBD_REQUEST_FLUSH,
    NBD_REQUEST_MAP, /* BLOCK_STATUS. An error of a server that is asked for allocation only leaves
                        the map unanswered. */
};

struct nbd_request {
    enum nbd_request_kind kind;
    uint64_t offset, length;
    uint8_t *data;       /* READ, WRITE; lent */
    struct nbd_map *map; /* MAP; lent; nbd_map_ask is called here */

    /* of those in whose hands it is */
    void *owner;
    struct nbd_exchange *exchange;
    struct nbd_request *next;
    uint64_t come; /* READ: bytes that have come; FLUSH: writes that it makes durable */
};

struct nbd_requests {
    struct nbd_request *first, **tail;
    size_t n;
};

static inline void nbd_requests_init(struct nbd_requests *list)
{
    list->first = NULL;
    list->tail = &list->first;
    list->n = 0;
}

static inline void nbd_requests_add(struct nbd_requests *list, struct nbd_request *r)
{
    r->next = NULL;
    *list->tail = r;
    list->tail = &r->next;
    list->n++;
}

/* The first one; NULL: there is none. */
static inline struct nbd_request *nbd_requests_take(struct nbd_requests *list)
{
    struct nbd_request *r = list->first;

    if (!r)
        return NULL;
    list->first = r->next;
    if (!list->first)
        list->tail = &list->first;
    list->n--;
    return r;
}

/* It is in the list. */
static inline void nbd_requests_remove(struct nbd_requests *list, struct nbd_request *r)
{
    struct nbd_request **at = &list->first;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (!*at)
        list->tail = at;
    list->n--;
}

/* Move all of `from` behind `to`. */
static inline void nbd_requests_move(struct nbd_requests *to, struct nbd_requests *from)
{
    struct nbd_request *r;

    while ((r = nbd_requests_take(from)))
        nbd_requests_add(to, r);
}

#endif
