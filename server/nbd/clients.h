/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The set of clients, from their acceptance to their end. Private to nbd/. It knows of a client
 * only what is in struct nbd_client; how one is served is connection.h's and serve.h's business.
 *
 * Ends. A client's thread leaves the list, closes, and says that it is gone. Nobody waits for that
 * with the control thread: an end that has been asked for (of a listener's clients, of all) is told
 * by a callback, from the thread of the client that is the last.
 */
#ifndef NBD_CLIENTS_H
#define NBD_CLIENTS_H

#include "server/registry/registry.h"

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

enum phase { PHASE_HANDSHAKE, PHASE_TRANSMISSION, PHASE_ENDED };

struct nbd_clients;
struct nbd_client;

/* What a listener's clients may do; one for all of its ports. Fixed, but for what is said. */
struct admission {
    struct nbd_clients *set;
    enum export_scope scope;    /* which exports they find */
    unsigned handshake_timeout; /* seconds, 0: none */
    unsigned max_connections;   /* of an export on a port; 0: any number */
    int room;                   /* eventfd: a client has gone; readable means: look again */

    /* under set->lock */
    unsigned n_clients;          /* of all ports */
    bool closed;                 /* no more come; the last one to leave calls: */
    void (*empty)(void *opaque); /* the lock is not held; nothing of ours is used afterwards */
    void *empty_opaque;
};

/* One listening socket and its clients. */
struct port {
    struct admission *admission;
    int fd;
    unsigned n_clients;   /* set->lock */
    unsigned n_placed;    /* the same: those of them that have an export's place */
    int64_t paused_until; /* the accepting thread's; g_get_monotonic_time, 0: not paused */
};

/* What the set asks of a client. Each is called with the set's lock held, while the client is on
 * the list, and does not wait. */
struct nbd_client_ops {
    void (*cut)(struct nbd_client *c);           /* break it off */
    void (*end_when_idle)(struct nbd_client *c); /* the set is ending: end in order */
    char *(*description)(struct nbd_client *c);  /* who it is and what it waits for; g_free */
};

struct nbd_client {
    const struct nbd_client_ops *ops;
    struct nbd_clients *set;
    struct port *port; /* NULL: -s */
    int64_t since;     /* g_get_monotonic_time of its beginning */
    uint64_t number;   /* for the log */
    atomic_bool cut;   /* ended from outside: do not deal with what has been received */

    /* under set->lock */
    GList link;
    enum phase phase;
    const struct export *place; /* whose place it has */
};

struct nbd_clients {
    struct server *registry;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a place is free, or the end begins */
    GQueue list;            /* links of struct nbd_client, oldest first */
    GQueue ended;           /* the same; their threads are to be joined */
    unsigned n_running;     /* on `list`, or between the two */
    unsigned n_transmitting;
    uint64_t n_ever;
    atomic_bool ending;         /* one for all: nothing new is begun. Set under the lock. */
    void (*gone)(void *opaque); /* ending: to be called when n_running is 0 */
    void *gone_opaque;
};

void clients_init(struct nbd_clients *s, struct server *registry);
void clients_destroy(struct nbd_clients *s); /* nobody is left */

/* A line of the debug log about this client. Any thread that may touch it. */
void client_debug(const struct nbd_client *c, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ---- a client's life; its thread, where nothing else is said ---- */

/* Put a new client on the list, before its thread is started; take it off where that fails. Lock
 * held from before the one until after the other. Any thread. */
void clients_add(struct nbd_clients *s, struct nbd_client *c);
void clients_withdraw(struct nbd_clients *s, struct nbd_client *c);
/* Its turn to transmission. False: the server is ending. */
bool clients_enter_transmission(struct nbd_client *c);
/* Off the list: nobody finds it any more, and it may close its descriptors. */
void clients_leave(struct nbd_client *c);
/* Nothing of it is left but its thread, which is about to return. Afterwards `c` may be freed. */
void clients_ended(struct nbd_client *c);
/* The next client whose thread is to be joined, or NULL. Any thread. */
struct nbd_client *clients_pop_ended(struct nbd_clients *s);

/* ---- ends; none waits ---- */

/* No more come to the listener: cut its clients. `empty` is called once, when they are gone: from
 * the last one's thread, or from here where there are none. */
void admission_close(struct admission *a, void (*empty)(void *opaque), void *opaque);
/* Begin the end of all: what is under way finishes; when nobody is in transmission any more, those
 * in the handshake are cut. `gone` is called once, when all have ended: from the last one's thread,
 * or from here. */
void clients_end(struct nbd_clients *s, void (*gone)(void *opaque), void *opaque);
void clients_cut(struct nbd_clients *s);
/* What those say of themselves that have not ended: array of char *, to be unref'ed. */
GPtrArray *clients_left(struct nbd_clients *s);

unsigned admission_clients(struct admission *a);

/* There is room: wake the accepting thread. Any thread, lock held. */
void clients_tell_room(const struct admission *a);

#endif
