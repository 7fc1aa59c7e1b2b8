/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/clients.h"

#include <errno.h>
#include <time.h>

#define YOUNG_USEC G_USEC_PER_SEC
/* How long to wait for somebody else's place. */
#define MOMENT_USEC G_USEC_PER_SEC
/* While all is full: how often to look whether there is another export. */
#define FULL_USEC G_USEC_PER_SEC

/* ---- newcomers ---- */

/* Locked. The oldest client of the port that is still in its handshake. */
static struct connection *oldest_in_handshake(const struct port *p)
{
    for (GList *i = listener_server(p->listener)->connections.head; i; i = i->next) {
        struct connection *c = i->data;
        if (c->port == p && c->phase == PHASE_HANDSHAKE && !c->place)
            return c; /* the list is in order of age */
    }
    return NULL;
}

/* Locked: the handshake is full. Drop somebody for who waits, now or soon. */
static void make_way(struct port *p)
{
    struct connection *c = oldest_in_handshake(p);

    p->paused_until = c ? c->since + YOUNG_USEC : G_MAXINT64; /* one who leaves wakes us */
    if (c && p->paused_until <= g_get_monotonic_time()) {
        connection_debug(c, "dropped: others wait while it says nothing");
        connection_cut(c);
        p->paused_until = G_MAXINT64;
    }
}

/* Has no export a place left? One has if fewer are taken than there are in all. */
static bool all_full(struct port *p, unsigned max)
{
    struct nbd_server *n = listener_server(p->listener);

    pthread_mutex_lock(&n->lock);
    unsigned placed = p->n_placed;
    pthread_mutex_unlock(&n->lock);
    if (placed < max)
        return false;
    g_autoptr(GPtrArray) exports = server_list_exports(n->registry, listener_scope(p->listener));
    return placed >= (uint64_t)max * MAX(exports->len, 1);
}

bool clients_admit(struct port *p)
{
    struct nbd_server *n = listener_server(p->listener);
    unsigned max = listener_max_connections(p->listener);

    if (max != 0 && all_full(p, max)) {
        p->paused_until = g_get_monotonic_time() + FULL_USEC;
        return false;
    }
    pthread_mutex_lock(&n->lock);
    bool room = max == 0 || p->n_clients - p->n_placed < max;
    if (room)
        p->n_clients++;
    else
        make_way(p);
    pthread_mutex_unlock(&n->lock);
    return room;
}

void clients_unadmit(struct port *p)
{
    pthread_mutex_lock(&listener_server(p->listener)->lock);
    p->n_clients--;
    pthread_mutex_unlock(&listener_server(p->listener)->lock);
}

/* ---- places of exports ---- */

/* Locked. */
static bool has_room(const struct port *p, const struct export *e, unsigned max)
{
    unsigned taken = 0;

    if (max == 0 || p->n_placed < max)
        return true;
    for (GList *i = listener_server(p->listener)->connections.head; i; i = i->next) {
        const struct connection *c = i->data;
        taken += c->port == p && c->place == e;
    }
    return taken < max;
}

static struct timespec timespec_of(int64_t usec)
{
    return (struct timespec){.tv_sec = usec / G_USEC_PER_SEC,
                             .tv_nsec = usec % G_USEC_PER_SEC * 1000};
}

bool clients_take_place(struct connection *c, const struct export *e, int64_t deadline)
{
    struct nbd_server *n = c->server;
    struct port *p = c->port;
    int64_t moment = MOMENT_USEC, now = g_get_monotonic_time();

    if (!p)
        return true;
    if (deadline != 0) /* there must be time to tell him */
        moment = MIN(moment, MAX(deadline - now, 0) / 2);
    struct timespec until = timespec_of(now + moment);
    unsigned max = listener_max_connections(p->listener);

    pthread_mutex_lock(&n->lock);
    int error = 0;
    while (!has_room(p, e, max) && error != ETIMEDOUT && !atomic_load(&c->cut) &&
           !atomic_load(&n->ending))
        error = pthread_cond_timedwait(&n->changed, &n->lock, &until);
    bool taken = has_room(p, e, max);
    if (taken) {
        c->place = e;
        p->n_placed++;
    }
    pthread_mutex_unlock(&n->lock);
    return taken;
}

void clients_leave_place(struct connection *c)
{
    struct nbd_server *n = c->server;

    pthread_mutex_lock(&n->lock);
    if (c->place) {
        c->place = NULL;
        c->port->n_placed--;
        listener_wake(c->port->listener);
        pthread_cond_broadcast(&n->changed);
    }
    pthread_mutex_unlock(&n->lock);
}
