/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/connection.h"

#include "common/error.h"
#include "common/log.h"
#include "server/nbd/places.h"
#include "server/nbd/tls-peer.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

void connection_debug(struct connection *c, const char *format, ...)
{
    va_list args;

    if (!log_is_verbose())
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    log_debug("client %" PRIu64 ": %s", c->number, text);
}

/* A Unix socket's other end has no address: the process that connected. */
static char *unix_peer(int fd)
{
    struct ucred cred;
    socklen_t length = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
        return g_strdup("on a Unix socket");
    return g_strdup_printf("process %ld of user %lu", (long)cred.pid, (unsigned long)cred.uid);
}

char *connection_peer(const struct connection *c)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } a;
    socklen_t length = sizeof a;
    char text[INET6_ADDRSTRLEN];

    if (!c->stream.in_socket)
        return g_strdup("on standard input");
    if (getpeername(c->stream.in, &a.any, &length) < 0)
        return g_strdup("that has gone");
    switch (a.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &a.in.sin_addr, text, sizeof text);
        return g_strdup_printf("%s:%u", text, ntohs(a.in.sin_port));
    case AF_INET6:
        inet_ntop(AF_INET6, &a.in6.sin6_addr, text, sizeof text);
        return g_strdup_printf("[%s]:%u", text, ntohs(a.in6.sin6_port));
    case AF_UNIX:
        return unix_peer(c->stream.in);
    default:
        return g_strdup_printf("%" PRIu64, c->number);
    }
}

void connection_cut(struct connection *c)
{
    atomic_store(&c->cut, true);
    stream_cut(&c->stream);
}

/* The registry: the export goes away. */
static void cancel(struct export_client *client, bool cut)
{
    struct connection *c =
        (struct connection *)((char *)client - G_STRUCT_OFFSET(struct connection, client));

    atomic_store(&c->leaving, true);
    if (cut)
        connection_cut(c);
    else
        connection_end_when_idle(c);
}

int connection_open(struct connection *c, struct export *e, struct agreement agreed, GError **err)
{
    const struct export_info *info = export_info(e);

    c->client.cancel = cancel;
    atomic_store(&c->leaving, false); /* an export that it only asked about may have gone */
    if (!export_attach(e, &c->client))
        return fail(err, "it is being removed");
    c->attached = true;
    c->export = export_ref(e);
    const struct tls_peer *peer = stream_tls_peer(&c->stream);
    c->backend_client = (struct backend_client){
        .export_name = info->name,
        .tls = peer != NULL,
        .tls_dn = peer ? peer->dn : NULL,
        .tls_issuer_dn = peer ? peer->issuer_dn : NULL,
        .socket = c->stream.in_socket ? c->stream.in : -1,
    };
    if (node_io_open(info->node, info->writable, info->discard, &c->backend_client, &c->session.io,
                     err) < 0) {
        c->session.io = NULL;
        connection_close_export(c);
        return -1;
    }
    const struct node_info *node = node_io_info(c->session.io);
    c->session.send_file = node->has_file && stream_can_send_file(&c->stream);
    c->session.rules = (struct request_rules){
        .size = node->size,
        .min_block = 1, /* for who does not ask: see reply_infos */
        .readonly = node->readonly,
        .structured = agreed.structured,
        .extended = agreed.extended,
    };
    return 0;
}

void connection_close_export(struct connection *c)
{
    if (c->session.io != NULL)
        node_io_close(c->session.io);
    c->session.io = NULL;
    meta_contexts_clear(&c->session.contexts);
    if (c->attached)
        export_detach(&c->client);
    c->attached = false;
    places_leave(c);
    if (c->export != NULL)
        export_unref(c->export);
    c->export = NULL;
}

/* A write to a pipe that nobody reads is an error for us to see, not a signal; so is sending a file
 * to a client that has gone. Elsewhere not, because programs that plugins start inherit it. */
static void block_sigpipe(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* Who reads a view is making a backup, and guests come first: where processors are short, this
 * thread, and its workers after it, wait for those that serve guests. (A guest that writes while
 * its view is pulled, two processors: the 99th percentile falls from 1.7 to 0.7 ms.) */
static void let_guests_go_first(void)
{
    id_t self = (id_t)gettid();

    setpriority(PRIO_PROCESS, self, MIN(getpriority(PRIO_PROCESS, self) + VIEW_NICENESS, 19));
}

void *connection_main(void *connection)
{
    struct connection *c = connection;
    struct nbd_server *n = c->server;

    if (!c->stream.out_socket)
        block_sigpipe();
    if (handshake(c)) {
        connection_debug(c, "uses export \"%s\"%s", export_info(c->export)->name,
                         c->session.rules.extended ? " with extended headers" : "");
        stream_tune(&c->stream, IDLE_SECONDS, n->send_seconds);
        if (export_info(c->export)->node->kind == NODE_VIEW)
            let_guests_go_first();
        if (c->session.send_file)
            block_sigpipe();
        transmission(c);
    }
    busy_poll_account(&c->poll, &n->poll_budget);
    connection_debug(c, "gone; requests found by polling: %" PRIu64 ", not found: %" PRIu64,
                     c->poll.hits, c->poll.misses);
    connection_end(c);
    return NULL;
}
