/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/clients.h"

#include "common/util/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

void clients_init(struct nbd_clients *s, struct server *registry)
{
    pthread_condattr_t attr;

    *s = (struct nbd_clients){.registry = registry};
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void clients_destroy(struct nbd_clients *s)
{
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
}

void client_debug(const struct nbd_client *c, const char *format, ...)
{
    va_list args;

    if (!log_is_verbose())
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    log_debug("client %" PRIu64 ": %s", c->number, text);
}

/* ---- a client's life ---- */

void clients_add(struct nbd_clients *s, struct nbd_client *c)
{
    c->number = ++s->n_ever;
    c->link.data = c;
    g_queue_push_tail_link(&s->list, &c->link);
    s->n_running++;
}

void clients_withdraw(struct nbd_clients *s, struct nbd_client *c)
{
    g_queue_unlink(&s->list, &c->link);
    s->n_running--;
}

/* Locked. */
static void cut_all(struct nbd_clients *s, const struct admission *only)
{
    for (GList *i = s->list.head; i; i = i->next) {
        struct nbd_client *c = i->data;
        if (!only || (c->port && c->port->admission == only))
            c->ops->cut(c);
    }
}

bool clients_enter_transmission(struct nbd_client *c)
{
    struct nbd_clients *s = c->set;

    pthread_mutex_lock(&s->lock);
    bool allowed = !atomic_load(&s->ending);
    if (allowed) {
        c->phase = PHASE_TRANSMISSION;
        s->n_transmitting++;
    }
    pthread_mutex_unlock(&s->lock);
    return allowed;
}

void clients_leave(struct nbd_client *c)
{
    struct nbd_clients *s = c->set;

    pthread_mutex_lock(&s->lock);
    g_queue_unlink(&s->list, &c->link);
    if (c->phase == PHASE_TRANSMISSION && --s->n_transmitting == 0 && atomic_load(&s->ending))
        cut_all(s, NULL); /* the others are in the handshake, and nothing comes of it any more */
    c->phase = PHASE_ENDED;
    pthread_mutex_unlock(&s->lock);
}

void clients_tell_room(const struct admission *a)
{
    uint64_t one = 1;

    (void)!write(a->room, &one, sizeof one); /* it can only fail where it is readable already */
}

/* A callback that is to be called once the lock is given up. */
struct call {
    void (*fn)(void *opaque);
    void *opaque;
};

static void make_call(struct call call)
{
    if (call.fn)
        call.fn(call.opaque);
}

/* Locked: what to call if the listener is closed and its last client has gone. */
static struct call take_empty(struct admission *a)
{
    struct call call = {0};

    if (a->closed && a->n_clients == 0) {
        call = (struct call){a->empty, a->empty_opaque};
        a->empty = NULL;
    }
    return call;
}

/* Locked: the same for the end of all clients. */
static struct call take_gone(struct nbd_clients *s)
{
    struct call call = {0};

    if (s->gone && s->n_running == 0) {
        call = (struct call){s->gone, s->gone_opaque};
        s->gone = NULL;
    }
    return call;
}

/* Locked. */
static void leave_port(struct port *p)
{
    p->n_clients--;
    p->admission->n_clients--;
    clients_tell_room(p->admission);
}

void clients_ended(struct nbd_client *c)
{
    struct nbd_clients *s = c->set;
    struct admission *a = c->port ? c->port->admission : NULL;
    struct call empty = {0};

    pthread_mutex_lock(&s->lock);
    g_queue_push_tail_link(&s->ended, &c->link);
    s->n_running--;
    if (a) {
        leave_port(c->port);
        empty = take_empty(a);
    }
    struct call gone = take_gone(s);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    make_call(empty);
    make_call(gone);
}

struct nbd_client *clients_pop_ended(struct nbd_clients *s)
{
    pthread_mutex_lock(&s->lock);
    GList *link = g_queue_pop_head_link(&s->ended);
    pthread_mutex_unlock(&s->lock);
    return link ? link->data : NULL;
}

/* ---- ends ---- */

void admission_close(struct admission *a, void (*empty)(void *opaque), void *opaque)
{
    struct nbd_clients *s = a->set;

    pthread_mutex_lock(&s->lock);
    a->closed = true;
    a->empty = empty;
    a->empty_opaque = opaque;
    cut_all(s, a);
    struct call call = take_empty(a);
    pthread_mutex_unlock(&s->lock);
    make_call(call);
}

void clients_end(struct nbd_clients *s, void (*gone)(void *opaque), void *opaque)
{
    pthread_mutex_lock(&s->lock);
    s->gone = gone;
    s->gone_opaque = opaque;
    atomic_store(&s->ending, true);
    pthread_cond_broadcast(&s->changed); /* a client that waits for a place gets none */
    for (GList *i = s->list.head; i; i = i->next) {
        struct nbd_client *c = i->data;
        if (c->phase == PHASE_TRANSMISSION)
            c->ops->end_when_idle(c);
    }
    if (s->n_transmitting == 0)
        cut_all(s, NULL);
    struct call call = take_gone(s);
    pthread_mutex_unlock(&s->lock);
    make_call(call);
}

void clients_cut(struct nbd_clients *s)
{
    pthread_mutex_lock(&s->lock);
    cut_all(s, NULL);
    pthread_mutex_unlock(&s->lock);
}

GPtrArray *clients_left(struct nbd_clients *s)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);

    pthread_mutex_lock(&s->lock);
    for (GList *i = s->list.head; i; i = i->next) {
        struct nbd_client *c = i->data;
        g_ptr_array_add(all, c->ops->description(c));
    }
    pthread_mutex_unlock(&s->lock);
    return all;
}

unsigned admission_clients(struct admission *a)
{
    pthread_mutex_lock(&a->set->lock);
    unsigned n = a->n_clients;
    pthread_mutex_unlock(&a->set->lock);
    return n;
}
