/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What plugins may ask about the client that they work for, and do to it and to the server.
 *
 * If a handle is a client's own, that is the client. On the disk's handle, which clients share
 * where the plugin has no multi-conn, it is the client that the calling thread works for. What the
 * server does for itself, such as opening the disk's handle, has no client: a question about it is
 * answered with an error.
 */
#include "server/backend/plugin-private.h"

#include "common/util/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the end of the server ---- */

/* The ABI's functions have no context argument, so the way to the server is global. */
static struct {
    pthread_mutex_t lock;
    void (*request)(void *opaque);
    void *opaque;
    pthread_once_t once;
    int ending_fd; /* an eventfd, readable for good once the server is ending */
} process = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .ending_fd = -1};

void plugin_set_shutdown(void (*request)(void *opaque), void *opaque)
{
    pthread_mutex_lock(&process.lock);
    process.request = request;
    process.opaque = opaque;
    pthread_mutex_unlock(&process.lock);
}

void nbdkit_shutdown(void)
{
    pthread_mutex_lock(&process.lock);
    void (*request)(void *) = process.request;
    void *opaque = process.opaque;
    pthread_mutex_unlock(&process.lock);

    if (request)
        request(opaque);
    else
        log_debug("a plugin asked for the end of the server: nobody listens");
}

static void make_ending_fd(void)
{
    process.ending_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (process.ending_fd < 0)
        log_error("eventfd: %m: plugins' sleeps will not be cut short when the server ends");
}

static int ending_fd(void)
{
    pthread_once(&process.once, make_ending_fd);
    return process.ending_fd;
}

void plugin_begin_shutdown(void)
{
    if (ending_fd() >= 0)
        eventfd_write(ending_fd(), 1);
}

/* ---- the client ---- */

static const struct backend_client *client_of_this_thread(void)
{
    struct plugin_call *c = plugin_call_current();

    if (!c || !c->handle)
        return NULL;
    return c->handle->client ? c->handle->client : backend_thread_client();
}

/* The same, where the plugin asks who the client is: if it does so while it opens a handle, whether
 * it opens it may depend on the answer (judges_clients in backend.h). The question whether the
 * client uses TLS does not count: many plugins ask that for every handle, and the server's options
 * decide who has to use it. */
static const struct backend_client *client_that_is_judged(void)
{
    struct plugin_call *c = plugin_call_current();

    if (c && c->said)
        atomic_store(&c->plugin->backend.judges_clients, true);
    return client_of_this_thread();
}

/* Its socket, or -1 after a complaint. */
static int client_socket(void)
{
    const struct backend_client *client = client_that_is_judged();

    if (!client || client->socket < 0) {
        nbdkit_error("there is no client behind this call");
        errno = ENOTCONN;
        return -1;
    }
    return client->socket;
}

const char *nbdkit_export_name(void)
{
    struct plugin_call *c = plugin_call_current();

    if (!c || !c->handle) {
        nbdkit_error("no export is being opened or used by this thread");
        return NULL;
    }
    return c->plugin->export_name;
}

int nbdkit_is_tls(void)
{
    struct plugin_call *c = plugin_call_current();

    if (!c) {
        nbdkit_error("there is no connection in this thread");
        return -1;
    }
    const struct backend_client *client = client_of_this_thread();
    return client && client->tls;
}

int nbdkit_peer_name(struct sockaddr *address, socklen_t *length)
{
    int fd = client_socket();

    if (fd < 0)
        return -1;
    if (getpeername(fd, address, length) < 0) {
        nbdkit_error("getpeername: %m");
        return -1;
    }
    return 0;
}

static int peer_credentials(struct ucred *cred)
{
    socklen_t length = sizeof *cred;
    int fd = client_socket();

    if (fd < 0)
        return -1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cred, &length) < 0) {
        nbdkit_error("getsockopt: SO_PEERCRED: %m");
        return -1;
    }
    if (cred->uid == (uid_t)-1) { /* what the kernel says of sockets that are not Unix ones */
        nbdkit_error("the client's socket is not a Unix domain socket");
        return -1;
    }
    return 0;
}

int64_t nbdkit_peer_pid(void)
{
    struct ucred cred;

    return peer_credentials(&cred) < 0 ? -1 : (int64_t)cred.pid;
}

int64_t nbdkit_peer_uid(void)
{
    struct ucred cred;

    return peer_credentials(&cred) < 0 ? -1 : (int64_t)cred.uid;
}

int64_t nbdkit_peer_gid(void)
{
    struct ucred cred;

    return peer_credentials(&cred) < 0 ? -1 : (int64_t)cred.gid;
}

char *nbdkit_peer_security_context(void)
{
    char label[NAME_MAX + 1];
    socklen_t length = sizeof label - 1;
    int fd = client_socket();

    if (fd < 0)
        return NULL;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, label, &length) < 0) {
        nbdkit_error("getsockopt: SO_PEERSEC: %m");
        return NULL;
    }
    return strndup(label, length);
}

/* "" is nbdkit's answer where there is no TLS, or no certificate that was verified. */
char *nbdkit_peer_tls_dn(void)
{
    const struct backend_client *client = client_that_is_judged();

    return strdup(client && client->tls_dn ? client->tls_dn : "");
}

char *nbdkit_peer_tls_issuer_dn(void)
{
    const struct backend_client *client = client_that_is_judged();

    return strdup(client && client->tls_issuer_dn ? client->tls_issuer_dn : "");
}

void nbdkit_disconnect(int force)
{
    const struct backend_client *client = client_of_this_thread();

    if (client && client->disconnect)
        client->disconnect(client, force != 0);
    else
        log_debug("a plugin asked to disconnect a client where there is none");
}

/* ---- sleeping ---- */

/* The end of a client cuts sleeps short only on a handle of its own. On the disk's handle it may be
 * a read of old data that sleeps, which a view needs whichever client goes. */
int nbdkit_nanosleep(unsigned sec, unsigned nsec)
{
    struct plugin_call *c = plugin_call_current();
    const struct backend_client *client = c && c->handle ? c->handle->client : NULL;
    uint64_t whole = (uint64_t)sec + nsec / 1000000000;
    struct timespec timeout = {.tv_sec = (time_t)whole, .tv_nsec = nsec % 1000000000};
    struct pollfd fds[] = {
        {.fd = ending_fd(), .events = POLLIN},
        {.fd = client ? client->socket : -1, .events = POLLRDHUP},
    };
    sigset_t all;

    if (whole > INT_MAX) {
        nbdkit_error("sleep of %u seconds is too long", sec);
        errno = EINVAL;
        return -1;
    }
    sigfillset(&all); /* so that no signal ends it early */
    switch (ppoll(fds, G_N_ELEMENTS(fds), &timeout, &all)) {
    case 0:
        return 0;
    case -1:
        nbdkit_error("ppoll: %m");
        return -1;
    default:
        nbdkit_error("sleep cut short: %s",
                     fds[0].revents ? "the server is ending" : "the client has gone");
        errno = ESHUTDOWN;
        return -1;
    }
}
