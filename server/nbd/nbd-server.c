/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server as a whole: its connections, their beginning and their end.
 *
 * The orderly end: listeners stop; every connection sees it (`ending`). One in transmission ends as
 * soon as nothing of it is under way; until then it answers new requests with ESHUTDOWN. Those in
 * the handshake get ERR_SHUTDOWN for what they ask while we wait for the others, and are cut with
 * whoever is still there when the grace has passed.
 */
#include "server/nbd/connection.h"

#include "common/util/error.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

struct nbd_server *nbd_server_new(struct server *s, const struct nbd_options *options)
{
    struct nbd_server *n = g_new0(struct nbd_server, 1);
    pthread_condattr_t attr;

    n->registry = s;
    n->options = *options;
    n->send_seconds = SEND_SECONDS;
    poll_budget_init(&n->poll_budget, options->poll_max_ns);
    pthread_mutex_init(&n->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&n->changed, &attr);
    pthread_condattr_destroy(&attr);
    n->listeners = g_ptr_array_new();
    return n;
}

/* ---- beginning ---- */

static void connection_free(struct connection *c)
{
    workers_destroy(&c->workers);
    sender_destroy(&c->sender);
    if (c->memory)
        munmap(c->memory, RECEIVE_BUFFER + SEND_BUFFER);
    patience_unref(c->patience);
    g_free(c);
}

static int map_buffers(struct connection *c, GError **err)
{
    void *memory = mmap(NULL, RECEIVE_BUFFER + SEND_BUFFER, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return fail_errno(err, errno, "no memory for a client's buffers");
    c->memory = memory;
    c->in.bytes = memory;
    c->replies = (struct reply_buffer){
        .sender = &c->sender, .buf = c->in.bytes + RECEIVE_BUFFER, .size = SEND_BUFFER};
    return 0;
}

/* Locked: from here on the thread runs and the list has it. */
static int run(struct nbd_server *n, struct connection *c, GError **err)
{
    int error = pthread_create(&c->thread, NULL, connection_main, c);
    if (error != 0)
        return fail_errno(err, error, "cannot start a client's thread");
    c->number = ++n->n_connections;
    c->link.data = c;
    g_queue_push_tail_link(&n->connections, &c->link);
    n->n_running++;
    return 0;
}

int connection_start(struct nbd_server *n, struct port *port, int in, int out,
                     void (*done)(void *opaque), void *opaque, GError **err)
{
    struct connection *c = g_new0(struct connection, 1);

    c->server = n;
    c->port = port;
    c->since = g_get_monotonic_time();
    c->done = done;
    c->done_opaque = opaque;
    if (stream_init(&c->stream, in, out, err) < 0) {
        g_free(c);
        return -1;
    }
    c->patience = patience_new(connection_gives_up, c);
    offload_init(&c->offload);
    busy_poll_init(&c->poll);
    sender_init(&c->sender, &c->stream);
    workers_init(&c->workers, &c->sender, n->options.threads, &n->log.workers, transmission_run_job,
                 c);
    int r = map_buffers(c, err);
    if (r == 0) {
        pthread_mutex_lock(&n->lock);
        r = run(n, c, err);
        pthread_mutex_unlock(&n->lock);
    }
    if (r < 0) {
        stream_close(&c->stream);
        connection_free(c);
    }
    return r;
}

/* ---- end ---- */

/* Nothing is under way in the workers. A thread that is not waiting for input sees that it is to
 * end before it waits again. */
static void end_waiting(void *connection)
{
    struct connection *c = connection;

    if (connection_is_ending(c) && atomic_load(&c->waiting))
        stream_end_input(&c->stream);
}

void connection_end_when_idle(struct connection *c)
{
    workers_when_idle(&c->workers, end_waiting, c);
}

bool connection_enter_transmission(struct connection *c)
{
    struct nbd_server *n = c->server;

    pthread_mutex_lock(&n->lock);
    bool allowed = !atomic_load(&n->ending);
    if (allowed)
        c->phase = PHASE_TRANSMISSION;
    pthread_mutex_unlock(&n->lock);
    return allowed;
}

void connection_end(struct connection *c)
{
    struct nbd_server *n = c->server;
    struct nbd_listener *l = c->port ? c->port->listener : NULL;

    /* The plugin may still ask for the peer's name while it closes. */
    connection_close_export(c);
    pthread_mutex_lock(&n->lock);
    g_queue_unlink(&n->connections, &c->link);
    c->phase = PHASE_ENDED;
    pthread_mutex_unlock(&n->lock);

    /* Nobody finds us any more: now the descriptors' numbers may be used again. A plugin that we
     * did not wait for may have the socket open; the client is to see its end all the same. */
    if (patience_has_abandoned(c->patience))
        stream_cut(&c->stream);
    stream_close(&c->stream);
    if (c->done)
        c->done(c->done_opaque);

    pthread_mutex_lock(&n->lock);
    g_queue_push_tail_link(&n->ended, &c->link);
    n->n_running--;
    if (c->port)
        c->port->n_clients--;
    if (l)
        listener_wake(l);
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

void connections_reap(struct nbd_server *n)
{
    for (;;) {
        pthread_mutex_lock(&n->lock);
        GList *link = g_queue_pop_head_link(&n->ended);
        pthread_mutex_unlock(&n->lock);
        if (!link)
            return;
        struct connection *c = link->data;
        pthread_join(c->thread, NULL);
        connection_free(c);
    }
}

void connections_cut(struct nbd_server *n, struct nbd_listener *l)
{
    for (GList *i = n->connections.head; i; i = i->next) {
        struct connection *c = i->data;
        if (!l || (c->port && c->port->listener == l))
            connection_cut(c);
    }
}

/* Locked: how many are in this phase? */
static unsigned count_phase(struct nbd_server *n, enum phase phase)
{
    unsigned count = 0;
    for (GList *i = n->connections.head; i; i = i->next)
        count += ((struct connection *)i->data)->phase == phase;
    return count;
}

/* Locked. */
static void begin_end(struct nbd_server *n)
{
    atomic_store(&n->ending, true);
    pthread_cond_broadcast(&n->changed); /* who waits for a place gets none */
    for (GList *i = n->connections.head; i; i = i->next) {
        struct connection *c = i->data;
        if (c->phase == PHASE_TRANSMISSION)
            connection_end_when_idle(c);
    }
}

static void wait_for_clients(struct nbd_server *n, unsigned grace_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += grace_ms / 1000;
    until.tv_nsec += (long)(grace_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&n->lock);
    begin_end(n);
    while (count_phase(n, PHASE_TRANSMISSION) > 0 &&
           pthread_cond_timedwait(&n->changed, &n->lock, &until) != ETIMEDOUT)
        ;
    connections_cut(n, NULL);
    while (n->n_running > 0)
        pthread_cond_wait(&n->changed, &n->lock);
    pthread_mutex_unlock(&n->lock);
}

void nbd_server_free(struct nbd_server *n, unsigned grace_ms)
{
    for (unsigned i = 0; i < n->listeners->len; i++)
        listener_stop_accepting(g_ptr_array_index(n->listeners, i));
    wait_for_clients(n, grace_ms);
    while (n->listeners->len > 0)
        nbd_listener_stop(g_ptr_array_index(n->listeners, 0));
    connections_reap(n);
    g_ptr_array_unref(n->listeners);
    poll_budget_destroy(&n->poll_budget);
    log_limit_end(&n->log.refused);
    log_limit_end(&n->log.tls);
    log_limit_end(&n->log.memory);
    log_limit_end(&n->log.workers);
    pthread_cond_destroy(&n->changed);
    pthread_mutex_destroy(&n->lock);
    g_free(n);
}

int nbd_serve_stdio(struct nbd_server *n, int in, int out, void (*done)(void *opaque), void *opaque,
                    GError **err)
{
    return connection_start(n, NULL, in, out, done, opaque, err);
}
