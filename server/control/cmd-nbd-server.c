/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-server-start and -stop, query-nbd-servers.
 */
#include "common/util/error.h"
#include "server/backup/backup.h"
#include "server/control/control-private.h"

#include <limits.h>
#include <string.h>

/* ---- arguments ---- */

static const struct arg unix_args[] = {ARG("path", ARG_STRING), ARGS_END};
static const struct arg inet_args[] = {ARG("host", ARG_STRING), ARG("port", ARG_STRING), ARGS_END};

static const struct arg fd_args[] = {ARG("str", ARG_STRING), ARGS_END};

static const struct arg *address_args(const char *type)
{
    if (strcmp(type, "unix") == 0)
        return unix_args;
    if (strcmp(type, "inet") == 0)
        return inet_args;
    return strcmp(type, "fd") == 0 ? fd_args : NULL;
}

static const struct arg address[] = {
    ARG("type", ARG_TAG, .branch = address_args),
    ARG("data", ARG_BRANCH, .branch = address_args),
    ARGS_END,
};
static const struct arg nbd_server_start_args[] = {
    ARG("addr", ARG_STRUCT, .of = address), ARG_OPT("handshake-max-seconds", ARG_UINT32),
    ARG_OPT("tls-creds", ARG_STRING),       ARG_OPT("tls-authz", ARG_STRING),
    ARG_OPT("max-connections", ARG_UINT32), ARGS_END,
};

/* ---- nbd-server-start ---- */

static int nbd_server_start(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    struct control *c = call_control(call);
    const struct control_nbd *nbd = &c->nbd;
    JsonObject *data = arg_object(arg_object(args, "addr"), "data");
    const char *creds = arg_string(args, "tls-creds");
    const char *host = arg_string(data, "host"), *fd_text = arg_string(data, "str");
    guint64 fd = 0;

    if (nbd->started(nbd->opaque) || c->nbd_stop)
        return fail(err, "NBD server already running");
    if (creds)
        return fail(err, "No TLS credentials with id '%s'", creds);
    if (arg_string(args, "tls-authz")) /* it would have to be obeyed, and without TLS cannot be */
        return fail(err, "Parameter 'tls-authz' is unexpected");
    /* QEMU also takes names that `getfd` gave; we have no getfd. */
    if (fd_text && !g_ascii_string_to_unsigned(fd_text, 10, 0, INT_MAX, &fd, NULL))
        return fail(err, "File descriptor named '%s' has not been found", fd_text);
    if (host && host[0] == '\0')
        host = NULL;
    return nbd->start(nbd->opaque, arg_string(data, "path"), host, arg_string(data, "port"),
                      fd_text ? (int)fd : -1, (unsigned)arg_int(args, "handshake-max-seconds", 10),
                      (unsigned)arg_int(args, "max-connections", 100), err);
}

/* ---- nbd-server-stop ---- */

/* An nbd-server-stop. The exports go first, then the listener's clients. Each of the two may last
 * for ever where a plugin hangs, so the command is answered after a while, and what is left goes on
 * without it. */
struct nbd_stop {
    struct control *control; /* NULL: it has gone */
    struct qmp_call *call;   /* NULL: it has been answered */
    guint timer;             /* the command's patience; 0: it is over */
    GError *error;           /* what was left of the exports, or NULL */
};

/* Another listener may be started from now on. */
static void stop_is_over(struct nbd_stop *stop)
{
    if (stop->control)
        stop->control->nbd_stop = NULL;
    stop->control = NULL;
}

static void answer_stop(struct nbd_stop *stop)
{
    if (stop->timer)
        g_source_remove(stop->timer);
    stop->timer = 0;
    if (!stop->call)
        return;
    if (stop->error)
        qmp_call_fail(stop->call, stop->error);
    else
        qmp_call_return(stop->call, NULL);
    stop->call = NULL;
}

static gboolean clients_left(gpointer p)
{
    struct nbd_stop *stop = p;

    answer_stop(stop);
    g_clear_error(&stop->error);
    g_free(stop);
    return G_SOURCE_REMOVE;
}

static void hop_clients_left(void *stop)
{
    g_idle_add_full(G_PRIORITY_DEFAULT, clients_left, stop, NULL);
}

static gboolean clients_stay(gpointer p)
{
    struct nbd_stop *stop = p;

    stop->timer = 0;
    if (!stop->error)
        fail(&stop->error, "The NBD server has stopped, but a request of one of its clients does "
                           "not end");
    answer_stop(stop);
    return G_SOURCE_REMOVE;
}

static void exports_gone(void *opaque, const GError *error)
{
    struct nbd_stop *stop = opaque;
    struct control *c = stop->control;

    stop_is_over(stop);
    stop->error = error ? g_error_copy(error) : NULL;
    if (!c) { /* and with it all listeners */
        clients_left(stop);
        return;
    }
    stop->timer = g_timeout_add(EXPORT_GONE_MS, clients_stay, stop);
    if (error) /* it has waited long enough */
        answer_stop(stop);
    c->nbd.stop(c->nbd.opaque, hop_clients_left, stop);
}

static void nbd_server_stop(struct qmp_call *call, JsonObject *args)
{
    struct control *c = call_control(call);
    g_autoptr(GError) error = NULL;

    if (!control_nbd_started(c)) {
        fail(&error, "NBD server not running");
        qmp_call_fail(call, error);
        return;
    }
    c->nbd_stop = g_new0(struct nbd_stop, 1);
    *c->nbd_stop = (struct nbd_stop){.control = c, .call = call};
    if (c->backup)
        sessions_abort_all(c->backup->sessions, "the NBD server was stopped");
    server_export_del_all(c->server, exports_gone, c->nbd_stop);
}

void control_forget_nbd_stop(struct control *c)
{
    if (c->nbd_stop)
        stop_is_over(c->nbd_stop);
}

/* ---- query-nbd-servers ---- */

/* `live`: the disks' own exports are found there, too. */
static void describe_sockets(JsonArray *list, const GPtrArray *uris, bool live)
{
    for (guint i = 0; i < uris->len; i++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "uri", uris->pdata[i]);
        json_object_set_boolean_member(o, "live", live);
        json_array_add_object_element(list, o);
    }
}

static int query_nbd_servers(struct qmp_call *call, JsonObject *args, JsonNode **value,
                             GError **err)
{
    const struct control_nbd *nbd = &call_control(call)->nbd;
    JsonArray *list = json_array_new();

    describe_sockets(list, nbd->uris(nbd->opaque, EXPORTS_LIVE), true);
    describe_sockets(list, nbd->uris(nbd->opaque, EXPORTS_ADDED), false);
    *value = qmp_array(list);
    return 0;
}

/* clang-format off */
const struct qmp_command nbd_server_commands[] = {
    {"nbd-server-start", "Opens one more NBD listener beside those of the command line.",
     nbd_server_start_args, .run = nbd_server_start},
    {"nbd-server-stop", "Closes the listener that B<nbd-server-start> has opened, and removes all "
                        "exports that were added.",
     no_args, .start = nbd_server_stop},
    {"query-nbd-servers", "Returns the listening sockets.",
     no_args, .run = query_nbd_servers},
    {.name = NULL},
};
/* clang-format on */
