/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants. Every request that is not done is in one of two lists: `waiting`, not sent on the
 * present connection, and `asked`, sent on it. A connection is closed before what was asked on it
 * waits again, so nothing that libnbd does later touches a request. libnbd answers ENOTCONN for what
 * is under way when a connection ends; so this, and ESHUTDOWN, are no answers.
 */
#include "common/copy/nbd-exchange.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

/* Most requests that are under way on a connection. */
#define ASKED_MAX 64

struct nbd_exchange {
    char *context;
    bool allocation;
    nbd_request_done done;
    struct nbd_requests waiting, asked;

    struct nbd_handle *nbd; /* NULL: between connections */
    int socket;             /* its, for use within libnbd's callbacks */
    bool drop;              /* it is of no use */
    bool renegotiate;       /* it is of no use as it was negotiated */
    bool can_map;           /* the server can be asked for extents */
    const char *violation;  /* what it has sent against the protocol; NULL: nothing */

    bool answered;
    uint64_t written; /* writes and zeroes that were answered */
    uint64_t flushed; /* of these, those that are durable */
};

struct nbd_exchange *nbd_exchange_new(const char *context, bool allocation, nbd_request_done done)
{
    struct nbd_exchange *x = g_new0(struct nbd_exchange, 1);

    x->context = g_strdup(context);
    x->allocation = allocation;
    x->done = done;
    nbd_requests_init(&x->waiting);
    nbd_requests_init(&x->asked);
    return x;
}

void nbd_exchange_free(struct nbd_exchange *x)
{
    if (x)
        g_free(x->context);
    g_free(x);
}

/* ---- answers ---- */

static const char *verb(enum nbd_request_kind kind)
{
    static const char *const verbs[] = {
        [NBD_REQUEST_READ] = "read",   [NBD_REQUEST_WRITE] = "write",
        [NBD_REQUEST_ZERO] = "zero",   [NBD_REQUEST_TRIM] = "trim",
        [NBD_REQUEST_FLUSH] = "flush", [NBD_REQUEST_MAP] = "read the extents",
    };

    return verbs[kind];
}

static GError *said_no(const struct nbd_request *r, const char *why)
{
    GError *error = NULL;

    if (r->kind == NBD_REQUEST_FLUSH)
        source_nbd_fail(&error, SOURCE_NBD_ERROR_FAILED, "flush: %s", why);
    else
        source_nbd_fail(&error, SOURCE_NBD_ERROR_FAILED, "%s at %" PRIu64 ": %s", verb(r->kind),
                        r->offset, why);
    return error;
}

/* Count what was written, and what of it is durable. */
static void account(struct nbd_exchange *x, const struct nbd_request *r)
{
    if (r->kind == NBD_REQUEST_WRITE || r->kind == NBD_REQUEST_ZERO)
        x->written++;
    else if (r->kind == NBD_REQUEST_FLUSH)
        x->flushed = r->come;
}

/* Leave the map unanswered. */
static void all_is_data(struct nbd_request *r)
{
    nbd_map_ask(r->map, r->offset, r->length);
    r->exchange->done(r, NULL);
}

/* The server has refused to tell extents. */
static void no_extents(struct nbd_request *r, int error)
{
    struct nbd_exchange *x = r->exchange;

    if (!x->context)
        all_is_data(r);
    else if (x->allocation) {
        /* Perhaps it is base:allocation that it cannot tell: do without. */
        x->allocation = false;
        x->renegotiate = true;
        nbd_requests_add(&x->waiting, r);
    } else {
        x->done(r, said_no(r, g_strerror(error)));
    }
}

static bool is_short(const struct nbd_request *r)
{
    return r->kind == NBD_REQUEST_READ && r->come != r->length;
}

/* libnbd's: a request is answered, or the connection has ended. */
static int answered(void *opaque, int *error)
{
    struct nbd_request *r = opaque;
    struct nbd_exchange *x = r->exchange;

    if (*error == ENOTCONN || *error == ESHUTDOWN) {
        x->drop = true;
        return 1;
    }
    nbd_requests_remove(&x->asked, r);
    x->answered = true;
    if (*error != 0 && r->kind == NBD_REQUEST_MAP)
        no_extents(r, *error);
    else if (*error != 0)
        x->done(r, said_no(r, g_strerror(*error)));
    else if (is_short(r))
        x->done(r, said_no(r, "the server has sent less than was asked for"));
    else {
        account(x, r);
        x->done(r, NULL);
    }
    return 1;
}

/* The server sends what it may not, and perhaps without end: let the connection end. libnbd's own
 * functions may not be called from its callbacks. */
static void cut(struct nbd_exchange *x, const char *why)
{
    x->violation = why;
    shutdown(x->socket, SHUT_RDWR);
}

static int take_data(void *opaque, const void *data, size_t length, uint64_t offset,
                     unsigned status, int *error)
{
    struct nbd_request *r = opaque;

    r->come += length;
    if (r->come > r->length || (length == 0 && status != LIBNBD_READ_ERROR))
        cut(r->exchange, "more data than was asked for, or none");
    return 0;
}

static int take_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    struct nbd_request *r = opaque;
    const char *dirty = r->exchange->context;
    bool fine = true;

    if (dirty && strcmp(context, dirty) == 0)
        fine = nbd_map_take(r->map, NBD_MAP_DIRTY, entries, count);
    else if (strcmp(context, NBD_LINK_ALLOCATION) == 0)
        fine = nbd_map_take(r->map, NBD_MAP_ALLOCATION, entries, count);
    if (!fine)
        cut(r->exchange, "too many extents");
    return 0;
}

/* ---- asking ---- */

static int64_t ask(struct nbd_exchange *x, struct nbd_request *r)
{
    nbd_completion_callback done = {.callback = answered, .user_data = r};
    nbd_chunk_callback data = {.callback = take_data, .user_data = r};
    nbd_extent_callback extents = {.callback = take_extents, .user_data = r};

    r->come = 0;
    switch (r->kind) {
    case NBD_REQUEST_READ:
        return nbd_aio_pread_structured(x->nbd, r->data, r->length, r->offset, data, done, 0);
    case NBD_REQUEST_WRITE:
        return nbd_aio_pwrite(x->nbd, r->data, r->length, r->offset, done, 0);
    case NBD_REQUEST_ZERO:
        return nbd_aio_zero(x->nbd, r->length, r->offset, done, 0);
    case NBD_REQUEST_TRIM:
        return nbd_aio_trim(x->nbd, r->length, r->offset, done, 0);
    case NBD_REQUEST_FLUSH:
        r->come = x->written;
        return nbd_aio_flush(x->nbd, done, 0);
    case NBD_REQUEST_MAP:
        nbd_map_ask(r->map, r->offset, r->length);
        return nbd_aio_block_status(x->nbd, r->length, r->offset, extents, done, 0);
    }
    g_assert_not_reached();
}

static void ask_one(struct nbd_exchange *x, struct nbd_request *r)
{
    if (r->kind == NBD_REQUEST_MAP && !x->can_map) {
        all_is_data(r);
        return;
    }
    nbd_requests_add(&x->asked, r);
    if (ask(x, r) >= 0)
        return;
    if (nbd_aio_is_ready(x->nbd) != 1 && nbd_aio_is_processing(x->nbd) != 1) {
        x->drop = true; /* it has ended */
    } else {
        nbd_requests_remove(&x->asked, r);
        x->done(r, said_no(r, source_nbd_reason()));
    }
}

/* Send what is waiting, as far as the connection is to have it. */
static void ask_some(struct nbd_exchange *x)
{
    while (x->waiting.n > 0 && x->asked.n < ASKED_MAX && !x->drop && !x->renegotiate)
        ask_one(x, nbd_requests_take(&x->waiting));
}

/* ---- what others call ---- */

void nbd_exchange_add(struct nbd_exchange *x, struct nbd_request *r)
{
    r->exchange = x;
    nbd_requests_add(&x->waiting, r);
}

struct nbd_request *nbd_exchange_take(struct nbd_exchange *x)
{
    return nbd_requests_take(&x->waiting);
}

bool nbd_exchange_is_idle(const struct nbd_exchange *x)
{
    return x->waiting.n + x->asked.n == 0;
}

void nbd_exchange_begin(struct nbd_exchange *x, struct nbd_handle *nbd)
{
    x->nbd = nbd;
    x->socket = nbd_aio_get_fd(nbd);
    x->drop = x->renegotiate = false;
    x->can_map = x->context || nbd_can_meta_context(nbd, NBD_LINK_ALLOCATION) == 1;
}

int nbd_exchange_step(struct nbd_exchange *x, const struct nbd_link_wait *w, GError **err)
{
    GError *error = NULL;
    int result = 0;

    ask_some(x);
    if (!x->drop && x->asked.n > 0)
        result = nbd_link_step(x->nbd, w, &error);
    if (x->violation) {
        g_clear_error(&error);
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED,
                               "the server does not keep to the protocol: it sends %s",
                               x->violation);
    }
    if (result < 0) {
        g_propagate_error(err, error);
        return -1;
    }
    if (x->drop)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_UNREACHABLE, "it has closed the connection");
    return x->renegotiate;
}

void nbd_exchange_end(struct nbd_exchange *x)
{
    x->nbd = NULL;
    /* What was asked comes first. */
    nbd_requests_move(&x->asked, &x->waiting);
    nbd_requests_move(&x->waiting, &x->asked);
}

bool nbd_exchange_was_answered(struct nbd_exchange *x)
{
    bool answered = x->answered;

    x->answered = false;
    return answered;
}

bool nbd_exchange_wants_allocation(const struct nbd_exchange *x)
{
    return x->allocation;
}

bool nbd_exchange_is_unflushed(const struct nbd_exchange *x)
{
    return x->written != x->flushed;
}
