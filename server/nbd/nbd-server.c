/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The orderly end: listeners stop; every client sees it (`ending` of nbd_clients). A client in
 * transmission ends as soon as nothing of it is under way; until then its new requests are answered
 * with ESHUTDOWN. Clients in the handshake get ERR_SHUTDOWN for what they ask, and are cut when
 * nobody is in transmission any more. When the grace has passed, all that are left are cut.
 */
#include "server/nbd/nbd-server.h"

#include "server/nbd/listener.h"
#include "server/nbd/nbd-private.h"
#include "server/nbd/serve.h"

/* A client that does not read is dropped after this time without progress. */
#define SEND_SECONDS 120u

struct nbd_server *nbd_server_new(struct server *s, const struct nbd_options *options)
{
    struct nbd_server *n = g_new0(struct nbd_server, 1);

    n->registry = s;
    n->options = *options;
    n->send_seconds = SEND_SECONDS;
    poll_budget_init(&n->poll_budget, options->poll_max_ns);
    clients_init(&n->clients, s);
    n->listeners = g_ptr_array_new();
    return n;
}

/* ---- listeners ---- */

struct nbd_listener *nbd_listen(struct nbd_server *n, enum export_scope scope, const int *fds,
                                unsigned n_fds, unsigned handshake_timeout,
                                unsigned max_connections, GError **err)
{
    struct nbd_listener *l =
        listener_new(n, scope, fds, n_fds, handshake_timeout, max_connections, err);

    if (l)
        g_ptr_array_add(n->listeners, l);
    return l;
}

void nbd_listener_stop(struct nbd_listener *l, void (*done)(void *opaque), void *opaque)
{
    g_ptr_array_remove(listener_server(l)->listeners, l);
    listener_stop(l, done, opaque);
}

unsigned nbd_listener_clients(struct nbd_listener *l)
{
    return listener_clients(l);
}

int nbd_serve_stdio(struct nbd_server *n, int in, int out, void (*done)(void *opaque), void *opaque,
                    GError **err)
{
    return serve_start(n, NULL, in, out, done, opaque, err);
}

/* ---- the end ---- */

void nbd_server_stop(struct nbd_server *n, void (*done)(void *opaque), void *opaque)
{
    for (unsigned i = 0; i < n->listeners->len; i++)
        listener_stop_accepting(n->listeners->pdata[i]);
    clients_end(&n->clients, done, opaque);
}

void nbd_server_cut(struct nbd_server *n)
{
    clients_cut(&n->clients);
}

GPtrArray *nbd_server_left(struct nbd_server *n)
{
    return clients_left(&n->clients);
}

void nbd_server_free(struct nbd_server *n)
{
    for (unsigned i = 0; i < n->listeners->len; i++)
        listener_stop(n->listeners->pdata[i], NULL, NULL); /* has no clients: is freed at once */
    serve_reap(n);
    g_ptr_array_unref(n->listeners);
    poll_budget_destroy(&n->poll_budget);
    log_limit_end(&n->log.refused);
    log_limit_end(&n->log.tls);
    log_limit_end(&n->log.memory);
    log_limit_end(&n->log.workers);
    clients_destroy(&n->clients);
    g_free(n);
}
