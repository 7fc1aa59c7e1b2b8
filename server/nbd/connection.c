/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/connection.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/nbd/clients.h"
#include "server/nbd/tls-peer.h"
#include "server/nbd/tls-session.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
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

    if (!c->stream.wire.in_socket)
        return g_strdup("on standard input");
    if (getpeername(c->stream.wire.in, &a.any, &length) < 0)
        return g_strdup("that has gone");
    switch (a.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &a.in.sin_addr, text, sizeof text);
        return g_strdup_printf("%s:%u", text, ntohs(a.in.sin_port));
    case AF_INET6:
        inet_ntop(AF_INET6, &a.in6.sin6_addr, text, sizeof text);
        return g_strdup_printf("[%s]:%u", text, ntohs(a.in6.sin6_port));
    case AF_UNIX:
        return unix_peer(c->stream.wire.in);
    default:
        return g_strdup_printf("%" PRIu64, c->number);
    }
}

void connection_debug_tls(struct connection *c)
{
    const struct tls_peer *peer = stream_tls_peer(&c->stream);

    if (!log_is_verbose())
        return;
    g_autofree char *tls = tls_description(c->stream.tls);
    g_autofree char *who = connection_peer(c);
    const char *name = peer->names->len > 0 ? peer->names->pdata[0] : "";
    g_autofree char *escaped = g_strescape(name, NULL); /* it may be any bytes */
    g_autofree char *shown = text_for_display((struct text){escaped, strlen(escaped)}, ECHO_MAX);
    connection_debug(c, "%s uses %s; its name is \"%s\"", who, tls, shown);
}

void connection_cut(struct connection *c)
{
    atomic_store(&c->cut, true);
    stream_cut(&c->stream);
    patience_wake(c->patience);
}

bool connection_gives_up(void *connection)
{
    struct connection *c = connection;

    return atomic_load(&c->leaving) || atomic_load(&c->cut);
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
    patience_wake(c->patience);
}

/* A plugin, in a call for this client: the client is to go. */
static void disconnect(const struct backend_client *client, bool force)
{
    struct connection *c = client->opaque;

    connection_debug(c, "the disk's plugin ends it%s", force ? " at once" : "");
    atomic_store(&c->dismissed, true);
    if (force)
        connection_cut(c);
    else
        connection_end_when_idle(c);
}

/* The registry: is anybody there? Its descriptors stay as long as it is attached. */
static bool hung_up(struct export_client *client)
{
    struct connection *c =
        (struct connection *)((char *)client - G_STRUCT_OFFSET(struct connection, client));
    struct pollfd p = {.fd = c->stream.wire.in, .events = POLLRDHUP};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Until when a plugin may take to open a handle, so that there is time to go on without. */
static int64_t half_way_to(int64_t deadline)
{
    int64_t now = g_get_monotonic_time();

    return deadline == 0 ? 0 : now + MAX(deadline - now, 0) / 2;
}

int connection_open(struct connection *c, struct export *e, struct agreement agreed,
                    int64_t deadline, GError **err)
{
    const struct export_info *info = export_info(e);

    c->client.cancel = cancel;
    c->client.hung_up = hung_up;
    atomic_store(&c->leaving, false); /* an export that it only asked about may have gone */
    if (!export_attach(e, &c->client)) {
        atomic_store(&c->leaving, true);
        return fail(err, "it is being removed");
    }
    c->attached = true;
    c->export = export_ref(e);
    const struct tls_peer *peer = stream_tls_peer(&c->stream);
    c->backend_client = (struct backend_client){
        .export_name = info->name,
        .tls = peer,
        .tls_dn = peer ? peer->dn : NULL,
        .tls_issuer_dn = peer ? peer->issuer_dn : NULL,
        .socket = c->stream.wire.in_socket ? c->stream.wire.in : -1,
        .disconnect = disconnect,
        .opaque = c,
    };
    if (node_io_open_within(info->node, info->writable, info->discard, &c->backend_client,
                            c->patience, half_way_to(deadline), &c->negotiated.io, err) < 0) {
        c->negotiated.io = NULL;
        connection_close_export(c);
        return -1;
    }
    if (atomic_load(&c->dismissed)) { /* while it was opened: nothing is under way */
        connection_cut(c);
        connection_close_export(c);
        return fail(err, "the disk's plugin ends this connection");
    }
    const struct node_info *node = node_io_info(c->negotiated.io);
    c->negotiated.send_file = node->has_file && stream_can_send_file(&c->stream);
    c->negotiated.rules = (struct request_rules){
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
    if (c->negotiated.io)
        node_io_close(c->negotiated.io);
    c->negotiated.io = NULL;
    meta_contexts_clear(&c->negotiated.contexts);
    if (c->attached)
        export_detach(&c->client);
    c->attached = false;
    clients_leave_place(c);
    if (c->export)
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

    if (!c->stream.wire.out_socket)
        block_sigpipe();
    if (handshake(c)) {
        connection_debug(c, "uses export \"%s\"%s", export_info(c->export)->name,
                         c->negotiated.rules.extended ? " with extended headers" : "");
        stream_tune(&c->stream, IDLE_SECONDS, n->send_seconds);
        if (export_info(c->export)->node->kind == NODE_VIEW)
            let_guests_go_first();
        if (c->negotiated.send_file)
            block_sigpipe();
        transmission(c);
    }
    busy_poll_account(&c->poll, &n->poll_budget);
    connection_debug(c, "gone; requests found by polling: %" PRIu64 ", not found: %" PRIu64,
                     c->poll.hits, c->poll.misses);
    connection_end(c);
    return NULL;
}
