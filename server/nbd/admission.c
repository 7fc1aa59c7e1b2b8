/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/admission.h"

#include "common/base/deadline.h"

#include <errno.h>

#define YOUNG_USEC G_USEC_PER_SEC
/* How long a client waits for a place that another client has. */
#define MOMENT_USEC G_USEC_PER_SEC
/* While all places are taken: how often to look whether an export was added. */
#define FULL_USEC G_USEC_PER_SEC

/* ---- newcomers ---- */

/* Locked. The oldest client of the port that is still in its handshake. */
static struct nbd_client *oldest_in_handshake(const struct port *p)
{
    for (GList *i = p->admission->set->list.head; i; i = i->next) {
        struct nbd_client *c = i->data;
        if (c->port == p && c->phase == PHASE_HANDSHAKE && !c->place)
            return c; /* the list is in order of age */
    }
    return NULL;
}

/* Locked: the handshake is full. Drop a client for the newcomer, now or soon. */
static void make_way(struct port *p)
{
    struct nbd_client *c = oldest_in_handshake(p);

    p->paused_until = c ? c->since + YOUNG_USEC : G_MAXINT64; /* whoever leaves wakes us */
    if (c && p->paused_until <= g_get_monotonic_time()) {
        client_debug(c, "dropped: others wait while it says nothing");
        c->ops->cut(c);
        p->paused_until = G_MAXINT64;
    }
}

/* Are the places of all exports taken? Some export has one left if fewer are taken than there are
 * in all. */
static bool all_full(struct port *p, unsigned max)
{
    struct nbd_clients *s = p->admission->set;

    pthread_mutex_lock(&s->lock);
    unsigned placed = p->n_placed;
    pthread_mutex_unlock(&s->lock);
    if (placed < max)
        return false;
    g_autoptr(GPtrArray) exports = server_list_exports(s->registry, p->admission->scope);
    return placed >= (uint64_t)max * MAX(exports->len, 1);
}

bool admission_admit(struct port *p)
{
    struct nbd_clients *s = p->admission->set;
    unsigned max = p->admission->max_connections;

    if (max != 0 && all_full(p, max)) {
        p->paused_until = g_get_monotonic_time() + FULL_USEC;
        return false;
    }
    pthread_mutex_lock(&s->lock);
    bool room = max == 0 || p->n_clients - p->n_placed < max;
    if (room) {
        p->n_clients++;
        p->admission->n_clients++;
    } else {
        make_way(p);
    }
    pthread_mutex_unlock(&s->lock);
    return room;
}

void admission_unadmit(struct port *p)
{
    struct nbd_clients *s = p->admission->set;

    pthread_mutex_lock(&s->lock);
    p->n_clients--;
    p->admission->n_clients--;
    pthread_mutex_unlock(&s->lock);
}

/* ---- places of exports ---- */

/* Locked. */
static bool has_room(const struct port *p, const struct export *e, unsigned max)
{
    unsigned taken = 0;

    if (max == 0 || p->n_placed < max)
        return true;
    for (GList *i = p->admission->set->list.head; i; i = i->next) {
        const struct nbd_client *c = i->data;
        taken += c->port == p && c->place == e;
    }
    return taken < max;
}

bool admission_take_place(struct nbd_client *c, const struct export *e, int64_t deadline)
{
    struct nbd_clients *s = c->set;
    struct port *p = c->port;
    int64_t moment = MOMENT_USEC, now = g_get_monotonic_time();

    if (!p)
        return true;
    if (deadline != 0) /* there must be time for the answer */
        moment = MIN(moment, MAX(deadline - now, 0) / 2);
    struct timespec until = deadline_timespec(now + moment);
    unsigned max = p->admission->max_connections;

    pthread_mutex_lock(&s->lock);
    int error = 0;
    while (!has_room(p, e, max) && error != ETIMEDOUT && !atomic_load(&c->cut) &&
           !atomic_load(&s->ending))
        error = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    bool taken = has_room(p, e, max);
    if (taken) {
        c->place = e;
        p->n_placed++;
        clients_tell_room(p->admission); /* the handshake has one more */
    }
    pthread_mutex_unlock(&s->lock);
    return taken;
}

void admission_leave_place(struct nbd_client *c)
{
    struct nbd_clients *s = c->set;

    pthread_mutex_lock(&s->lock);
    if (c->place) {
        c->place = NULL;
        c->port->n_placed--;
        clients_tell_room(c->port->admission);
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
}
