/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread accepts for all sockets of a listener.
 *
 * Whether there is room for a newcomer is admission.h's business.
 *
 * When descriptors, memory or threads have run out, the server hangs up on a newcomer at once.
 * Where not even that can be done (common/util/accept.h) the port pauses until a client has gone,
 * or for a second, so that the thread does not spin.
 */
#include "server/nbd/listener.h"

#include "common/util/accept.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "common/util/log-limit.h"
#include "server/nbd/admission.h"
#include "server/nbd/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_USEC G_USEC_PER_SEC

struct nbd_listener {
    struct nbd_server *server;
    struct admission admission; /* its `room` also wakes the thread when it is to stop */
    struct port *ports;
    unsigned n_ports;
    pthread_t thread;
    bool accepting;       /* the thread is to be joined; control thread */
    atomic_bool stopping; /* tells the thread */
    int reserve;          /* see common/util/accept.h; the thread's */
    void (*done)(void *opaque);
    void *done_opaque;
};

/* ---- accepting ---- */

static void log_refused(struct nbd_listener *l, const char *why)
{
    log_error_limited(&l->server->log.refused, "NBD client refused: %s", why);
}

static void accept_failed(struct nbd_listener *l, struct port *p, int error, bool refused)
{
    admission_unadmit(p);
    if (error == EAGAIN || error == EINTR || error == ECONNABORTED)
        return;
    if (refused) {
        log_refused(l, g_strerror(error));
        return;
    }
    log_error_limited(&l->server->log.refused, "cannot accept an NBD client: %s",
                      g_strerror(error));
    p->paused_until = g_get_monotonic_time() + PAUSE_USEC;
}

/* It has no effect on sockets that are not TCP. Where the kernel refuses it, the server notices
 * later that a client has gone without a word. */
static void keep_alive(int fd)
{
    int one = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) < 0)
        log_debug("option '--keepalive': %m");
}

static void accept_one(struct nbd_listener *l, struct port *p)
{
    g_autoptr(GError) err = NULL;
    bool refused;

    if (!admission_admit(p))
        return;
    int fd = accept_or_refuse(p->fd, SOCK_CLOEXEC, &l->reserve, &refused);
    if (fd >= 0 && l->server->options.keepalive)
        keep_alive(fd);
    if (fd < 0) {
        accept_failed(l, p, errno, refused);
    } else if (serve_start(l->server, p, fd, fd, NULL, NULL, &err) < 0) {
        log_refused(l, err->message);
        admission_unadmit(p);
    }
}

/* Fill in what to wait for; returns poll's timeout. */
static int prepare(struct nbd_listener *l, struct pollfd *fds)
{
    int64_t now = g_get_monotonic_time(), first = G_MAXINT64;

    for (unsigned i = 0; i < l->n_ports; i++) {
        struct port *p = &l->ports[i];
        if (p->paused_until <= now)
            p->paused_until = 0;
        else
            first = MIN(first, p->paused_until);
        fds[i] = (struct pollfd){.fd = p->paused_until == 0 ? p->fd : -1, .events = POLLIN};
    }
    fds[l->n_ports] = (struct pollfd){.fd = l->admission.room, .events = POLLIN};
    return first == G_MAXINT64 ? -1 : (int)((first - now) / 1000 + 1);
}

static void woken(struct nbd_listener *l)
{
    uint64_t count;

    (void)!read(l->admission.room, &count, sizeof count);
    for (unsigned i = 0; i < l->n_ports; i++)
        l->ports[i].paused_until = 0;
    serve_reap(l->server);
}

static void *accept_main(void *listener)
{
    struct nbd_listener *l = listener;
    g_autofree struct pollfd *fds = g_new0(struct pollfd, l->n_ports + 1);

    while (!atomic_load(&l->stopping)) {
        int timeout = prepare(l, fds);
        if (poll(fds, l->n_ports + 1, timeout) < 0)
            continue; /* EINTR */
        if (fds[l->n_ports].revents != 0)
            woken(l);
        for (unsigned i = 0; i < l->n_ports && !atomic_load(&l->stopping); i++) {
            if (fds[i].revents != 0)
                accept_one(l, &l->ports[i]);
        }
    }
    return NULL;
}

/* ---- beginning and end ---- */

static void close_all(const int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
}

static void listener_free(struct nbd_listener *l)
{
    if (l->admission.room >= 0)
        close(l->admission.room);
    if (l->reserve >= 0)
        close(l->reserve);
    g_free(l->ports);
    g_free(l);
}

struct nbd_listener *listener_new(struct nbd_server *n, enum export_scope scope, const int *fds,
                                  unsigned n_fds, unsigned handshake_timeout,
                                  unsigned max_connections, GError **err)
{
    struct nbd_listener *l = g_new0(struct nbd_listener, 1);

    l->server = n;
    l->admission = (struct admission){
        .set = &n->clients,
        .scope = scope,
        .handshake_timeout = handshake_timeout,
        .max_connections = max_connections,
        .room = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    int error = l->admission.room < 0 ? errno : 0;
    l->ports = g_new0(struct port, n_fds);
    l->n_ports = n_fds;
    for (unsigned i = 0; i < n_fds; i++) {
        l->ports[i] = (struct port){.admission = &l->admission, .fd = fds[i]};
        /* A client may be gone again between poll and accept. */
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
    }
    l->reserve = accept_reserve();
    if (error == 0)
        error = pthread_create(&l->thread, NULL, accept_main, l);
    if (error != 0) {
        fail_errno(err, error, "cannot start a listener");
        close_all(fds, n_fds);
        listener_free(l);
        return NULL;
    }
    l->accepting = true;
    return l;
}

void listener_stop_accepting(struct nbd_listener *l)
{
    if (!l->accepting)
        return;
    atomic_store(&l->stopping, true);
    clients_tell_room(&l->admission);
    pthread_join(l->thread, NULL);
    l->accepting = false;
    for (unsigned i = 0; i < l->n_ports; i++)
        close(l->ports[i].fd);
}

/* Its clients have gone. */
static void listener_ended(void *listener)
{
    struct nbd_listener *l = listener;
    void (*done)(void *opaque) = l->done;
    void *opaque = l->done_opaque;

    listener_free(l);
    if (done)
        done(opaque);
}

void listener_stop(struct nbd_listener *l, void (*done)(void *opaque), void *opaque)
{
    listener_stop_accepting(l);
    l->done = done;
    l->done_opaque = opaque;
    admission_close(&l->admission, listener_ended, l);
}

struct nbd_server *listener_server(struct nbd_listener *l)
{
    return l->server;
}

unsigned listener_clients(struct nbd_listener *l)
{
    return admission_clients(&l->admission);
}
