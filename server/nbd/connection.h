/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client, from its acceptance to its end, and the server that holds them all. Private to nbd/.
 *
 * A connection is a thread: handshake, transmission, end. Everything of it is that thread's alone,
 * but: phase, place and link (the server's lock), stream_cut and stream_end_input on its stream,
 * `waiting`, `leaving`, `dismissed` and `cut` (atomic), and what sender and workers guard
 * themselves. It takes itself off the server's list, under the lock, before it closes its
 * descriptors and frees anything; so who finds it on the list with the lock held may touch these.
 *
 * Lock order: the server's lock, then that of a connection's workers. The registry may call cancel
 * with its own lock held; no lock of ours is held when we call the registry.
 */
#ifndef NBD_CONNECTION_H
#define NBD_CONNECTION_H

#include "common/util/log-limit.h"
#include "server/nbd/busy-poll.h"
#include "server/nbd/workers.h"
#include "server/nbd/listener.h"
#include "server/nbd/nbd-server.h"
#include "server/nbd/offload.h"
#include "server/nbd/negotiated.h"

/* A connection's buffers, mapped once and touched as far as they are used; given back to the kernel
 * when it is idle. A write that fits into the receive buffer is executed from there. */
#define RECEIVE_BUFFER   ((2u << 20) + (64u << 10))
#define SEND_BUFFER      ((1u << 20) + (64u << 10))
#define IN_PLACE_PAYLOAD (2u << 20)

/* Seconds without traffic after which buffers and workers are given up. */
#define IDLE_SECONDS 1u
/* Seconds without progress after which a client that does not read is dropped. */
#define SEND_SECONDS 120u

/* Bytes of a client's words that we repeat to it or write into the log. */
#define ECHO_MAX 80u

/* Added to the nice value of threads that serve a view. */
#define VIEW_NICENESS 10

enum phase { PHASE_HANDSHAKE, PHASE_TRANSMISSION, PHASE_ENDED };

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

struct connection {
    /* the server's */
    GList link;
    struct nbd_server *server;
    struct port *port; /* NULL: -s */
    pthread_t thread;
    enum phase phase;
    const struct export *place; /* one of its clients, for clients.h; the server's lock */
    int64_t since;              /* g_get_monotonic_time of its beginning */
    void (*done)(void *opaque);
    void *done_opaque;
    uint64_t number; /* for the log */

    struct stream stream;
    atomic_bool waiting;   /* in transmission: the thread may be blocked in a receive */
    atomic_bool leaving;   /* its export goes away: end in order, as when the server ends */
    atomic_bool dismissed; /* its disk's plugin wants it gone: the same */
    atomic_bool cut;       /* ended from outside: do not deal with what has been received */
    void *memory;          /* both buffers */

    /* the export it has opened */
    struct export *export; /* a reference */
    struct export_client client;
    struct backend_client backend_client;
    struct patience *patience; /* with the plugin that opens it; woken by `leaving` and `cut` */
    bool attached;
    struct negotiated negotiated;

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
    bool watch; /* see offload.h */
};

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
    unsigned send_seconds;
    struct poll_budget poll_budget;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a connection changed its phase */
    GQueue connections;     /* links of struct connection, oldest first */
    GQueue ended;           /* the same; their threads are to be joined */
    unsigned n_running;     /* threads that are not in `ended` yet */
    GPtrArray *listeners;
    uint64_t n_connections; /* ever */
    struct nbd_log_limits log;
    atomic_bool ending; /* one for all: nothing new is begun. Set under the lock. */
};

/* -- nbd-server.c -- */

/* Begin serving a client. Takes over the descriptors, on failure too. Any thread. `port` may be
 * NULL; else its n_clients has been raised for this client and is lowered when it has gone. */
int connection_start(struct nbd_server *n, struct port *port, int in, int out,
                     void (*done)(void *opaque), void *opaque, GError **err);
/* Join the threads of the connections that have ended. */
void connections_reap(struct nbd_server *n);
/* Cut those of a listener (NULL: all). Lock held. */
void connections_cut(struct nbd_server *n, struct nbd_listener *l);
/* The thread's turn to transmission; false: the server is ending. */
bool connection_enter_transmission(struct connection *c);

/* The thread's last act: leave the lists, close, and tell who waits for it. */
void connection_end(struct connection *c);

/* Have it end as soon as nothing of it is under way; `leaving`, `dismissed` or `ending` is set. Any
 * thread that may touch it. */
void connection_end_when_idle(struct connection *c);

/* -- connection.c -- */
void *connection_main(void *connection);
void connection_cut(struct connection *c);
/* It need not wait for its export any longer: for its patience. */
bool connection_gives_up(void *connection);
/* A line of the debug log about this client. */
void connection_debug(struct connection *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* One about who it is in TLS. */
void connection_debug_tls(struct connection *c);
/* Who is at the other end, for the log: an address, a process, a name it has proved. g_free. */
char *connection_peer(const struct connection *c);

/* It is to end in order: what comes now gets ESHUTDOWN. */
static inline bool connection_is_ending(struct connection *c)
{
    return atomic_load(&c->server->ending) || atomic_load(&c->leaving) ||
           atomic_load(&c->dismissed);
}

/* Attach to an export and open its node; fills session (but for the contexts) and rules.
 * `deadline`: the handshake's (g_get_monotonic_time), 0: none; at most half of what is left of it
 * is spent on waiting for a plugin. */
int connection_open(struct connection *c, struct export *e, struct agreement agreed,
                    int64_t deadline, GError **err);
void connection_close_export(struct connection *c);

/* -- handshake.c -- */

/* false: the connection is over. */
bool handshake(struct connection *c);

/* -- transmission.c -- */
void transmission(struct connection *c);
/* A worker's way to carry out a job; for workers_init. */
void transmission_run_job(void *connection, struct worker_job *job);

#endif
