/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The handshake: fixed newstyle. One function an option; what they parse with is in option.c.
 *
 * Exactly the bytes of one option are received at a time, so that nothing a client sends behind
 * it can be mistaken for something said in another phase. An absolute deadline holds for the whole
 * of it, whatever trickles in. Replies to an option are built in memory and sent at once.
 *
 * TLS begins in the middle of it, and what was agreed on before is forgotten then.
 */
#include "server/nbd/handshake.h"

#include "common/util/log.h"
#include "common/util/log-limit.h"
#include "server/nbd/opening.h"
#include "server/nbd/option-budget.h"
#include "server/nbd/option-reply.h"
#include "server/nbd/tls-peer.h"
#include "server/nbd/tls-session.h"

#include <errno.h>
#include <sys/mman.h>

/* An option is received into the front of the receive buffer. */
_Static_assert(OPTION_DATA_MAX <= RECEIVE_BUFFER, "an option fits into the receive buffer");

/* Memory that an option and its replies may keep until the next; what is more is given back. So
 * much is read, and sent, in one piece where all of it is not needed at once. */
#define OPTION_PIECE (64u << 10)

enum next { NEXT_OPTION, NEXT_TRANSMISSION, NEXT_END };

struct haggling {
    struct connection *c;
    int64_t deadline;
    bool fixed_newstyle, no_zeroes; /* the client's flags */
    struct agreement agreed;
    struct meta_contexts contexts;
    struct option_budget budget;
    uint32_t option; /* being dealt with */
    const uint8_t *data;
    size_t length;
    GByteArray *out;
};

/* ---- helpers ---- */

static int receive(struct haggling *h, void *buf, size_t length)
{
    return stream_receive_by(&h->c->stream, buf, length, h->deadline);
}

static int send_out(struct haggling *h)
{
    int r = stream_send_by(&h->c->stream, h->out->data, h->out->len, h->deadline);
    option_budget_use(&h->budget, h->out->len);
    g_byte_array_set_size(h->out, 0);
    return r;
}

static enum next option_error(struct haggling *h, uint32_t error, const char *why)
{
    char buf[24];
    client_debug(&h->c->client, "%s: %s", option_name(h->option, buf), why);
    option_reply_error(h->out, h->option, error, why);
    return NEXT_OPTION;
}

static enum next option_done(struct haggling *h)
{
    option_reply(h->out, h->option, NBD_REP_ACK);
    return NEXT_OPTION;
}

static bool uses_tls(const struct haggling *h)
{
    return stream_tls_peer(&h->c->stream) != NULL;
}

/* Whom an export is not for, to him there is no such export. */
static bool is_for(const struct haggling *h, const struct export *e)
{
    const struct export_info *info = export_info(e);
    const struct tls_peer *peer = stream_tls_peer(&h->c->stream);

    if (info->tls_authz)
        return peer && tls_peer_is_one_of(peer, info->tls_authz);
    return peer || !info->tls_required;
}

/* Lay out why there is no such export. In plain text, exports that only TLS shows and those that do
 * not exist are the same. */
static void unknown_export(struct haggling *h, struct text name)
{
    g_autofree char *shown = text_for_display(name, ECHO_MAX);
    bool tls_may_help = h->c->server->options.tls && !uses_tls(h) &&
                        (h->option == NBD_OPT_INFO || h->option == NBD_OPT_GO);
    g_autofree char *why =
        g_strdup_printf(tls_may_help ? "without TLS there is no export named \"%s\""
                                     : "there is no export named \"%s\"",
                        shown);

    option_error(h, tls_may_help ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_UNKNOWN, why);
}

/* Which exports this client may find: its listener's. Who is served on standard input and output
 * has the whole server to itself. */
static enum export_scope scope_of(const struct haggling *h)
{
    return h->c->client.port ? h->c->client.port->admission->scope : EXPORTS_LIVE;
}

/* A reference to the export, or NULL and an error laid out. */
static struct export *find_export(struct haggling *h, struct text name)
{
    g_autofree char *key = g_strndup(name.at ? name.at : "", name.length);
    struct export *e = server_find_export(h->c->server->registry, scope_of(h), key);

    if (e && !is_for(h, e)) {
        export_unref(e);
        e = NULL;
    }
    if (!e)
        unknown_export(h, name);
    return e;
}

/* Open the export for this client: 0, or what to answer INFO and GO with, and *why. */
static uint32_t open_export(struct haggling *h, struct export *e, char **why)
{
    struct connection *c = h->c;

    uint32_t error = opening_try(c, e, h->agreed, h->deadline, why);
    if (error != 0)
        return error;
    const struct node_info *info = node_io_info(c->negotiated.io);
    bool only_one = c->client.port && c->client.port->admission->max_connections == 1;
    bool contexts = h->contexts.export == e && h->contexts.n > 0;
    c->negotiated.rules.eflags = negotiated_flags(info, h->agreed, contexts, !only_one);
    return 0;
}

/* ---- options ---- */

static enum next on_abort(struct haggling *h)
{
    option_reply(h->out, h->option, NBD_REP_ACK);
    return NEXT_END;
}

static enum next on_list(struct haggling *h)
{
    const char *why;
    uint32_t error = option_parse_empty(h->length, &why);
    if (error != 0)
        return option_error(h, error, why);

    g_autoptr(GPtrArray) exports = server_list_exports(h->c->server->registry, scope_of(h));
    for (unsigned i = 0; i < exports->len; i++) {
        const struct export *e = g_ptr_array_index(exports, i);
        if (is_for(h, e))
            option_reply_server(h->out, h->option, export_info(e)->name,
                                export_info(e)->description);
        /* However many there are, their names and descriptions take no more memory than this. */
        if (h->out->len > OPTION_PIECE && send_out(h) < 0)
            return NEXT_END;
    }
    option_budget_told(&h->budget, exports->len);
    return option_done(h);
}

static enum next on_structured_reply(struct haggling *h)
{
    const char *why;
    uint32_t error = option_parse_empty(h->length, &why);
    if (error != 0)
        return option_error(h, error, why);
    if (h->c->server->options.no_structured_replies) /* old QEMUs want no other error here */
        return option_error(h, NBD_REP_ERR_UNSUP, "structured replies are switched off");
    if (h->agreed.extended)
        return option_error(h, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers were agreed on");
    h->agreed.structured = true;
    return option_done(h);
}

static enum next on_extended_headers(struct haggling *h)
{
    const char *why;

    /* Before its data is looked at: it is an option like any unknown one then. */
    if (h->c->server->options.no_structured_replies || h->c->server->options.no_extended_headers)
        return option_error(h, NBD_REP_ERR_UNSUP, "extended headers are switched off");
    uint32_t error = option_parse_empty(h->length, &why);
    if (error != 0)
        return option_error(h, error, why);
    h->agreed = (struct agreement){.structured = true, .extended = true};
    return option_done(h);
}

static void reply_infos(struct haggling *h, const struct option_go *go, struct export *e)
{
    const struct negotiated *s = &h->c->negotiated;
    const struct export_info *info = export_info(e);

    option_reply_info_export(h->out, h->option, s->rules.size, s->rules.eflags);
    if (go->want_name)
        option_reply_info_text(h->out, h->option, NBD_INFO_NAME, info->name);
    if (go->want_description && info->description)
        option_reply_info_text(h->out, h->option, NBD_INFO_DESCRIPTION, info->description);
    struct block_sizes b = negotiated_block_sizes(node_io_info(s->io));
    if (go->want_block_size || !block_sizes_are_default(b))
        option_reply_info_block_size(h->out, h->option, b.min, b.pref, b.max);
    if (go->want_block_size) /* it keeps to that; for others the node makes up for it (node.h) */
        h->c->negotiated.rules.min_block = b.min;
}

/* The contexts count only where they were set for the export that is used now. */
static void take_contexts(struct haggling *h)
{
    struct negotiated *s = &h->c->negotiated;

    if (h->contexts.export == h->c->export) {
        s->contexts = h->contexts;
        h->contexts = (struct meta_contexts){0};
    }
    s->rules.status_contexts = h->agreed.structured ? s->contexts.n : 0;
}

static enum next on_info_go(struct haggling *h)
{
    struct option_go go;
    const char *why;
    uint32_t error = option_parse_go(h->data, h->length, &go, &why);
    if (error != 0)
        return option_error(h, error, why);

    g_autofree char *reason = NULL;
    struct export *e = find_export(h, go.name);
    if (!e)
        return NEXT_OPTION;
    enum next next = NEXT_OPTION;
    error = open_export(h, e, &reason);
    if (error != 0) {
        option_error(h, error, reason);
    } else if (h->option == NBD_OPT_INFO) {
        reply_infos(h, &go, e);
        connection_close_export(h->c);
        option_done(h);
    } else if (!clients_enter_transmission(&h->c->client)) {
        connection_close_export(h->c);
        option_error(h, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    } else {
        reply_infos(h, &go, e);
        take_contexts(h);
        option_done(h);
        next = NEXT_TRANSMISSION;
    }
    export_unref(e);
    return next;
}

/* The old way in: it cannot answer with an error, only by closing. */
static enum next on_export_name(struct haggling *h)
{
    struct text name;
    const char *why;
    g_autofree char *reason = NULL;

    if (h->agreed.extended) {
        client_debug(&h->c->client, "NBD_OPT_EXPORT_NAME after extended headers");
        return NEXT_END;
    }
    if (option_parse_name(h->data, h->length, &name, &why) != 0) {
        client_debug(&h->c->client, "NBD_OPT_EXPORT_NAME: %s", why);
        return NEXT_END;
    }
    struct export *e = find_export(h, name);
    g_byte_array_set_size(h->out, 0); /* no error reply here */
    if (!e)
        return NEXT_END;
    enum next next = NEXT_END;
    if (open_export(h, e, &reason) == 0 && clients_enter_transmission(&h->c->client)) {
        uint8_t answer[10 + 124] = {0};
        store_be64(answer, h->c->negotiated.rules.size);
        store_be16(answer + 8, h->c->negotiated.rules.eflags);
        g_byte_array_append(h->out, answer, h->no_zeroes ? 10 : sizeof answer);
        take_contexts(h);
        next = NEXT_TRANSMISSION;
    }
    export_unref(e);
    return next;
}

static enum next on_meta_context(struct haggling *h)
{
    struct option_meta queries;
    const char *why;
    bool set = h->option == NBD_OPT_SET_META_CONTEXT;

    if (h->c->server->options.no_meta_contexts) /* whatever else is wrong with it, as nbdkit */
        return option_error(h, NBD_REP_ERR_UNSUP, "metadata contexts are switched off");
    if (set)
        meta_contexts_clear(&h->contexts); /* whatever comes of it */
    if (!h->agreed.structured)
        return option_error(h, NBD_REP_ERR_INVALID, "structured replies come first");
    uint32_t error = option_parse_meta(h->data, h->length, &queries, &why);
    if (error != 0)
        return option_error(h, error, why);
    struct export *e = find_export(h, queries.name);
    if (!e)
        return NEXT_OPTION;
    if (set)
        error = meta_set(e, &queries, &h->contexts, h->out, &why);
    else
        meta_list(e, &queries, h->out);
    export_unref(e);
    return error != 0 ? option_error(h, error, why) : option_done(h);
}

/* As if the client had just connected; all but its handshake flags is forgotten. */
static void forget(struct haggling *h)
{
    h->agreed = (struct agreement){0};
    meta_contexts_clear(&h->contexts);
}

static enum next tls_failed(struct haggling *h, const char *why)
{
    g_autofree char *peer = connection_peer(h->c);

    log_error_limited(&h->c->server->log.tls, "NBD client %s: TLS: %s", peer, why);
    return NEXT_END;
}

/* What a client has sent behind this option cannot be an answer to ours: somebody may have put it
 * there, to be taken for something said inside TLS (CVE-2021-3716). */
static enum next on_starttls(struct haggling *h)
{
    struct connection *c = h->c;
    const char *empty;
    g_autofree char *why = NULL;

    if (!c->server->options.tls)
        return option_error(h, NBD_REP_ERR_UNSUP, "TLS is switched off");
    uint32_t error = option_parse_empty(h->length, &empty);
    if (error != 0)
        return option_error(h, error, empty);
    if (uses_tls(h))
        return option_error(h, NBD_REP_ERR_INVALID, "this is TLS already");
    if (stream_input_waiting(&c->stream))
        return tls_failed(h, "there is plain text behind NBD_OPT_STARTTLS");
    option_done(h);
    int r = send_out(h);
    if (r < 0)
        return NEXT_END;
    if (stream_start_tls(&c->stream, c->server->options.tls, h->deadline, &why) < 0)
        return tls_failed(h, why);
    forget(h);
    connection_debug_tls(c);
    return NEXT_OPTION;
}

/* A client that must use TLS and does not yet. */
static enum next without_tls(struct haggling *h)
{
    if (h->option == NBD_OPT_EXPORT_NAME)
        return NEXT_END;
    return option_error(h, NBD_REP_ERR_TLS_REQD, "this server talks only over TLS");
}

/* ---- the haggling ---- */

static enum next dispatch(struct haggling *h)
{
    if (atomic_load(&h->c->server->clients.ending) && h->option != NBD_OPT_ABORT) {
        if (h->option == NBD_OPT_EXPORT_NAME)
            return NEXT_END;
        return option_error(h, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    }
    if (!h->fixed_newstyle && h->option != NBD_OPT_EXPORT_NAME)
        return option_error(h, NBD_REP_ERR_INVALID, "options are for fixed newstyle clients");
    if (h->c->server->options.tls_required && !uses_tls(h) && h->option != NBD_OPT_STARTTLS &&
        h->option != NBD_OPT_ABORT)
        return without_tls(h);
    switch (h->option) {
    case NBD_OPT_EXPORT_NAME:
        return on_export_name(h);
    case NBD_OPT_ABORT:
        return on_abort(h);
    case NBD_OPT_LIST:
        return on_list(h);
    case NBD_OPT_STARTTLS:
        return on_starttls(h);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return on_info_go(h);
    case NBD_OPT_STRUCTURED_REPLY:
        return on_structured_reply(h);
    case NBD_OPT_EXTENDED_HEADERS:
        return on_extended_headers(h);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return on_meta_context(h);
    default:
        return option_error(h, NBD_REP_ERR_UNSUP, "the option is not supported");
    }
}

/* Receive an option's data, or pass it over where there is more than we look at (option.h). */
static int receive_data(struct haggling *h, uint32_t length)
{
    uint8_t *to = h->c->in.bytes;
    int r = 0;

    if (length <= OPTION_DATA_MAX)
        return receive(h, to, length);
    for (uint32_t left = length; left > 0 && r == 0; left -= MIN(left, OPTION_PIECE))
        r = receive(h, to, MIN(left, OPTION_PIECE));
    return r;
}

/* A client that says nothing more holds no more memory than one that has said little. */
static void give_back(struct haggling *h, size_t length, size_t replies)
{
    if (length > OPTION_PIECE)
        madvise(h->c->memory, RECEIVE_BUFFER, MADV_DONTNEED);
    if (replies > OPTION_PIECE) {
        g_byte_array_unref(h->out);
        h->out = g_byte_array_new();
    }
}

/* Receive one option and answer it. */
static enum next one_option(struct haggling *h)
{
    uint8_t bytes[NBD_OPTION_HEADER_SIZE];
    struct option_header header;

    int r = receive(h, bytes, sizeof bytes);
    if (r == 0 && !option_parse_header(bytes, &header)) {
        client_debug(&h->c->client, "this is not NBD");
        return NEXT_END;
    }
    if (r == 0 && header.length > OPTION_LENGTH_MAX) {
        client_debug(&h->c->client, "an option of %u bytes is more than anybody needs",
                     header.length);
        return NEXT_END;
    }
    if (r == 0) {
        option_budget_use(&h->budget, sizeof bytes + (uint64_t)header.length);
        r = receive_data(h, header.length);
    }
    if (r < 0) {
        client_debug(&h->c->client, "gone in the handshake: %s", g_strerror(-r));
        return NEXT_END;
    }
    h->option = header.option;
    h->data = h->c->in.bytes;
    h->length = header.length;
    enum next next = dispatch(h);
    size_t replies = h->out->len;
    if (send_out(h) < 0)
        return NEXT_END;
    give_back(h, MIN(header.length, OPTION_DATA_MAX), replies);
    if (next == NEXT_OPTION && option_budget_is_spent(&h->budget)) {
        client_debug(&h->c->client, "it haggles without end");
        return NEXT_END;
    }
    return next;
}

/* Magic numbers and flags, both ways. */
static bool greet(struct haggling *h)
{
    uint8_t hello[18], answer[4];
    uint16_t flags =
        (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) & h->c->server->options.mask_handshake;

    store_be64(hello, NBD_INIT_MAGIC);
    store_be64(hello + 8, NBD_OPTION_MAGIC);
    store_be16(hello + 16, flags);
    g_byte_array_append(h->out, hello, sizeof hello);
    if (send_out(h) < 0 || receive(h, answer, sizeof answer) < 0)
        return false;
    uint32_t client = load_be32(answer);
    if (client & ~(uint32_t)flags) {
        client_debug(&h->c->client, "client flags 0x%x were not offered", client);
        return false;
    }
    h->fixed_newstyle = client & NBD_FLAG_FIXED_NEWSTYLE;
    h->no_zeroes = client & NBD_FLAG_NO_ZEROES;
    return true;
}

bool handshake(struct connection *c)
{
    struct haggling h = {.c = c, .out = g_byte_array_new()};
    unsigned timeout = c->client.port ? c->client.port->admission->handshake_timeout
                                      : c->server->options.handshake_timeout;
    enum next next = NEXT_OPTION;

    if (timeout > 0)
        h.deadline = c->client.since + (int64_t)timeout * G_USEC_PER_SEC;
    if (!greet(&h))
        next = NEXT_END;
    while (next == NEXT_OPTION)
        next = one_option(&h);
    meta_contexts_clear(&h.contexts);
    g_byte_array_unref(h.out);
    return next == NEXT_TRANSMISSION;
}
