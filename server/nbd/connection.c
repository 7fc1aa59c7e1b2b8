/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/connection.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/node-stats.h"
#include "server/nbd/admission.h"
#include "server/nbd/tls-peer.h"
#include "server/nbd/tls-session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <unistd.h>

/* An open that takes longer is not waited for any more if its client has hung up. */
#define PATIENT_USEC G_USEC_PER_SEC

static void set_export(struct connection *c, struct export *e)
{
    pthread_mutex_lock(&c->client.set->lock);
    c->export = e;
    pthread_mutex_unlock(&c->client.set->lock);
}

static void begin_call(struct connection *c, enum plugin_call call)
{
    atomic_store(&c->calling_since, g_get_monotonic_time());
    atomic_store(&c->calling, call);
}

static void end_call(struct connection *c)
{
    atomic_store(&c->calling, CALL_NONE);
}

/* ---- who it is ---- */

/* The other end of a Unix socket has no address; it is known by the process that connected. */
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
        return g_strdup_printf("%" PRIu64, c->client.number);
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
    client_debug(&c->client, "%s uses %s; its name is \"%s\"", who, tls, shown);
}

/* ---- ends ---- */

void connection_cut(struct connection *c)
{
    atomic_store(&c->client.cut, true);
    stream_cut(&c->stream);
    patience_wake(c->patience);
}

/* The workers are idle. If the thread waits for input, wake it; else it sees that it is to end
 * before it waits again. */
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

/* The registry: the export goes away. */
static void cancel(struct export_client *client, bool cut)
{
    struct connection *c =
        (struct connection *)((char *)client - G_STRUCT_OFFSET(struct connection, export_client));

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

    client_debug(&c->client, "the disk's plugin ends it%s", force ? " at once" : "");
    atomic_store(&c->dismissed, true);
    if (force)
        connection_cut(c);
    else
        connection_end_when_idle(c);
}

/* Its descriptors stay as long as it is attached. */
static bool has_hung_up(const struct connection *c)
{
    struct pollfd p = {.fd = c->stream.wire.in, .events = POLLRDHUP};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* The registry: is anybody there? */
static bool hung_up(struct export_client *client)
{
    return has_hung_up(
        (struct connection *)((char *)client - G_STRUCT_OFFSET(struct connection, export_client)));
}

/* Should the client stop waiting for its export? One that has only ended its input is served, as
 * ever, if its export is there soon: it may have sent all of its requests ahead. */
static bool gives_up(void *connection)
{
    struct connection *c = connection;
    int64_t waited = g_get_monotonic_time() - atomic_load(&c->calling_since);

    return atomic_load(&c->leaving) || atomic_load(&c->client.cut) ||
           (waited >= PATIENT_USEC && has_hung_up(c));
}

/* ---- the export ---- */

/* When to stop waiting for a plugin's open, so that there is time to go on without it. */
static int64_t half_way_to(int64_t deadline)
{
    int64_t now = g_get_monotonic_time();

    return deadline == 0 ? 0 : now + MAX(deadline - now, 0) / 2;
}

int connection_open(struct connection *c, struct export *e, struct agreement agreed,
                    int64_t deadline, GError **err)
{
    const struct export_info *info = export_info(e);

    c->export_client.cancel = cancel;
    c->export_client.hung_up = hung_up;
    atomic_store(&c->leaving, false); /* an export that it only asked about may have gone */
    if (!export_attach(e, &c->export_client)) {
        atomic_store(&c->leaving, true);
        return fail(err, "it is being removed");
    }
    c->attached = true;
    set_export(c, export_ref(e));
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
    begin_call(c, CALL_OPEN);
    int r = node_io_open_within(info->node, info->writable, info->discard, &c->backend_client,
                                c->patience, half_way_to(deadline), &c->negotiated.io, err);
    end_call(c);
    if (r < 0) {
        c->negotiated.io = NULL;
        connection_close_export(c);
        return -1;
    }
    if (atomic_load(&c->dismissed)) { /* while it was opened: nothing is under way */
        connection_cut(c);
        connection_close_export(c);
        return fail(err, "the disk's plugin ends this connection");
    }
    c->replies.counters = node_io_counters(c->negotiated.io);
    const struct node_info *node = node_io_info(c->negotiated.io);
    c->negotiated.send_file = node->has_file && stream_can_send_file(&c->stream);
    c->negotiated.rules = (struct request_rules){
        .size = node->size,
        .min_block = 1, /* for a client that does not ask: see reply_infos */
        .readonly = node->readonly,
        .structured = agreed.structured,
        .extended = agreed.extended,
    };
    return 0;
}

void connection_close_export(struct connection *c)
{
    if (c->negotiated.io) {
        begin_call(c, CALL_CLOSE);
        node_io_close(c->negotiated.io);
        end_call(c);
    }
    c->negotiated.io = NULL;
    c->replies.counters = NULL;
    meta_contexts_clear(&c->negotiated.contexts);
    /* Its node may go as soon as we have detached, so nobody is to find it by us then. */
    struct export *e = c->export;
    set_export(c, NULL);
    if (c->attached)
        export_detach(&c->export_client);
    c->attached = false;
    admission_leave_place(&c->client);
    if (e)
        export_unref(e);
}

/* ---- what is left ---- */

/* The request that the thread, or a worker, is in the plugin with, and since when. False: none. */
static bool find_request(struct connection *c, uint16_t *type, int64_t *since)
{
    uint64_t executing = atomic_load(&c->executing);

    if (executing == 0)
        return workers_oldest(&c->workers, type, since);
    *type = executing & EXECUTING_TYPES;
    *since = (int64_t)(executing / 1000);
    return true;
}

/* What it waits for, and since when; NULL: nothing. g_free. */
static char *waits_for(struct connection *c, int64_t *since)
{
    static const char *const calls[] = {
        [CALL_OPEN] = "its open is in the plugin",
        [CALL_CLOSE] = "its close is in the plugin",
    };
    unsigned calling = atomic_load(&c->calling);
    struct request r = {0};

    *since = atomic_load(&c->calling_since);
    if (calling != CALL_NONE)
        return g_strdup(calls[calling]);
    if (!find_request(c, &r.type, since))
        return NULL;
    return g_strdup_printf("a %s is in the plugin", request_name(&r));
}

static char *description(struct nbd_client *client)
{
    struct connection *c = connection_of(client);
    g_autofree char *peer = connection_peer(c);
    g_autoptr(GString) text = g_string_new(NULL);
    int64_t since;
    g_autofree char *what = waits_for(c, &since);

    g_string_printf(text, "client %s", peer);
    if (c->export)
        g_string_append_printf(text, " of export \"%s\" (%s)", export_info(c->export)->name,
                               export_info(c->export)->node->name);
    if (what)
        g_string_append_printf(text, ": %s for %" PRId64 " s", what,
                               (g_get_monotonic_time() - since) / G_USEC_PER_SEC);
    else
        g_string_append(text, ": it is about to end");
    return g_strdup(text->str);
}

/* ---- beginning and end ---- */

static void client_cut(struct nbd_client *client)
{
    connection_cut(connection_of(client));
}

static void client_end_when_idle(struct nbd_client *client)
{
    connection_end_when_idle(connection_of(client));
}

/* Allocate what may fail for want of memory. 0, or -1 and *err. */
static int allocate(struct connection *c, GError **err)
{
    c->patience = patience_new(gives_up, c);
    if (!c->patience)
        return fail_errno(err, ENOMEM, "no memory for a client");
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

struct connection *connection_new(struct nbd_server *n, struct port *port, int in, int out,
                                  void (*run_job)(void *connection, struct worker_job *job),
                                  GError **err)
{
    static const struct nbd_client_ops ops = {client_cut, client_end_when_idle, description};
    struct connection *c = g_new0(struct connection, 1);

    c->client = (struct nbd_client){
        .ops = &ops, .set = &n->clients, .port = port, .since = g_get_monotonic_time()};
    c->server = n;
    if (stream_init(&c->stream, in, out, err) < 0) {
        g_free(c);
        return NULL;
    }
    offload_init(&c->offload);
    busy_poll_init(&c->poll);
    sender_init(&c->sender, &c->stream);
    workers_init(&c->workers, &c->sender, n->options.threads, &n->log.workers, run_job, c);
    if (allocate(c, err) < 0) {
        stream_close(&c->stream);
        connection_free(c);
        return NULL;
    }
    return c;
}

void connection_free(struct connection *c)
{
    workers_destroy(&c->workers);
    sender_destroy(&c->sender);
    if (c->memory)
        munmap(c->memory, RECEIVE_BUFFER + SEND_BUFFER);
    if (c->patience)
        patience_unref(c->patience);
    g_free(c);
}
