/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client's connection: its stream, the export it uses, and what the transmission phase keeps.
 * Private to nbd/. Its thread is in serve.h, what the thread does in handshake.h and
 * transmission.h.
 *
 * Everything of a connection is its thread's alone, but: what struct nbd_client says of itself;
 * `export`, which the thread changes under the clients' lock; stream_cut and stream_end_input on
 * its stream; the atomic members; and what sender and workers guard themselves. The thread takes
 * the connection off the clients' list, under the lock, before it closes its descriptors and frees
 * anything; so whoever finds it on the list with the lock held may touch these.
 *
 * Lock order: the clients' lock, then that of a connection's workers. The registry calls `cancel`
 * and `hung_up` with its own lock held; no lock of ours is held when we call the registry.
 */
#ifndef NBD_CONNECTION_H
#define NBD_CONNECTION_H

#include "server/nbd/nbd-private.h"
#include "server/nbd/negotiated.h"
#include "server/nbd/offload.h"
#include "server/nbd/workers.h"

/* A connection's buffers, mapped once and touched as far as they are used; given back to the kernel
 * when it is idle. A write that fits into the receive buffer is executed from there. */
#define RECEIVE_BUFFER   ((2u << 20) + (64u << 10))
#define SEND_BUFFER      ((1u << 20) + (64u << 10))
#define IN_PLACE_PAYLOAD (2u << 20)

/* Bytes of a client's words that we repeat to it or write into the log. */
#define ECHO_MAX 80u

struct receive_buffer {
    uint8_t *bytes;
    size_t begin, end; /* received and not yet dealt with */
};

/* What a refused request is answered with. */
struct refusal {
    struct request request;
    uint32_t error;
    const char *why; /* constant, or NULL */
};

/* A call of the plugin that the thread makes for the client, and that may not come back. */
enum plugin_call { CALL_NONE, CALL_OPEN, CALL_CLOSE };

struct connection {
    struct nbd_client client; /* first: what the set of clients knows of it */
    struct nbd_server *server;
    pthread_t thread;
    void (*done)(void *opaque); /* serve_start's caller is told the end */
    void *done_opaque;

    struct stream stream;
    atomic_bool waiting;   /* in transmission: the thread may be blocked in a receive */
    atomic_bool leaving;   /* its export goes away: end in order, as when the server ends */
    atomic_bool dismissed; /* its disk's plugin wants it gone: the same */
    void *memory;          /* both buffers */

    /* the export it has opened */
    struct export *export; /* a reference */
    struct export_client export_client;
    struct backend_client backend_client;
    struct patience *patience; /* with the plugin that opens it; woken by `leaving` and a cut */
    bool attached;
    struct negotiated negotiated;
    atomic_uint calling;           /* enum plugin_call */
    _Atomic int64_t calling_since; /* g_get_monotonic_time of its beginning */

    /* transmission */
    struct receive_buffer in;
    uint64_t skip;          /* bytes of a refused write that are still to come */
    struct refusal refusal; /* of that write: its answer when they have */
    struct sender sender;
    struct workers workers;
    struct reply_buffer replies;
    unsigned gathered; /* requests carried out since the last send */
    struct offload offload;
    struct busy_poll poll;
    bool watch;                 /* see offload.h */
    _Atomic uint64_t executing; /* what the thread itself is with the node for, in a call that may
                                   block, and since when (executing_since); 0: it is not */
};

/* A connection over the two descriptors, which it takes over, on failure too. `run_job` is for
 * workers_init, with the connection as opaque. `port` may be NULL. */
struct connection *connection_new(struct nbd_server *n, struct port *port, int in, int out,
                                  void (*run_job)(void *connection, struct worker_job *job),
                                  GError **err);
/* Its stream is closed; no thread uses it any more. */
void connection_free(struct connection *c);

/* A request's type, in the lowest bits of CLOCK_MONOTONIC's nanoseconds: one store for both. */
#define EXECUTING_TYPES UINT64_C(7)

static inline uint64_t executing_since(uint64_t begin_ns, const struct request *r)
{
    return (begin_ns & ~EXECUTING_TYPES) | (r->type & EXECUTING_TYPES);
}

static inline struct connection *connection_of(struct nbd_client *c)
{
    return (struct connection *)c;
}

/* Break it off. Any thread that may touch it. */
void connection_cut(struct connection *c);
/* Have it end as soon as nothing of it is under way; `leaving`, `dismissed` or `ending` is set. Any
 * thread that may touch it. */
void connection_end_when_idle(struct connection *c);
/* It is to end in order: what comes now gets ESHUTDOWN. */
static inline bool connection_is_ending(struct connection *c)
{
    return atomic_load(&c->server->clients.ending) || atomic_load(&c->leaving) ||
           atomic_load(&c->dismissed);
}

/* One line of the debug log about who the client is in TLS. */
void connection_debug_tls(struct connection *c);
/* Who is at the other end, for the log: an address, a process, a name it has proved. g_free. */
char *connection_peer(const struct connection *c);

/* Attach to an export and open its node; fills negotiated (but for the contexts) and rules.
 * `deadline`: the handshake's (g_get_monotonic_time), 0: none; at most half of what is left of it
 * is spent on waiting for a plugin. 0; or -1 and *err, and nothing is left open. Its thread. */
int connection_open(struct connection *c, struct export *e, struct agreement agreed,
                    int64_t deadline, GError **err);
/* Close the node and detach from the export, if there are any. Its thread; may block in the
 * plugin. */
void connection_close_export(struct connection *c);

#endif
