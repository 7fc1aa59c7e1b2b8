/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options of the handshake, a function each; what they parse with is in option.c.
 */
#include "server/nbd/handshake-options.h"

#include "common/util/log-limit.h"
#include "server/nbd/opening.h"
#include "server/nbd/option-reply.h"

/* Open the export for this client. Returns 0, or the error to answer INFO and GO with, and *why. */
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
        return haggling_error(h, error, why);

    g_autoptr(GPtrArray) exports = server_list_exports(h->c->server->registry, haggling_scope(h));
    for (unsigned i = 0; i < exports->len; i++) {
        const struct export *e = g_ptr_array_index(exports, i);
        if (haggling_is_for(h, e))
            option_reply_server(h->out, h->option, export_info(e)->name,
                                export_info(e)->description);
        /* The memory for the replies does not grow with the number of exports. */
        if (h->out->len > OPTION_PIECE && haggling_send(h) < 0)
            return NEXT_END;
    }
    option_budget_told(&h->budget, exports->len);
    return haggling_done(h);
}

static enum next on_structured_reply(struct haggling *h)
{
    const char *why;
    uint32_t error = option_parse_empty(h->length, &why);
    if (error != 0)
        return haggling_error(h, error, why);
    if (h->c->server->options.no_structured_replies) /* old QEMUs want no other error here */
        return haggling_error(h, NBD_REP_ERR_UNSUP, "structured replies are switched off");
    if (h->agreed.extended)
        return haggling_error(h, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers were agreed on");
    h->agreed.structured = true;
    return haggling_done(h);
}

static enum next on_extended_headers(struct haggling *h)
{
    const char *why;

    /* Checked before its data: when switched off it is like any unknown option. */
    if (h->c->server->options.no_structured_replies || h->c->server->options.no_extended_headers)
        return haggling_error(h, NBD_REP_ERR_UNSUP, "extended headers are switched off");
    uint32_t error = option_parse_empty(h->length, &why);
    if (error != 0)
        return haggling_error(h, error, why);
    h->agreed = (struct agreement){.structured = true, .extended = true};
    return haggling_done(h);
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
    if (go->want_block_size) /* others may do without: see node.h */
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
        return haggling_error(h, error, why);

    g_autofree char *reason = NULL;
    struct export *e = haggling_find_export(h, go.name);
    if (!e)
        return NEXT_OPTION;
    enum next next = NEXT_OPTION;
    error = open_export(h, e, &reason);
    if (error != 0) {
        haggling_error(h, error, reason);
    } else if (h->option == NBD_OPT_INFO) {
        reply_infos(h, &go, e);
        connection_close_export(h->c);
        haggling_done(h);
    } else if (!clients_enter_transmission(&h->c->client)) {
        connection_close_export(h->c);
        haggling_error(h, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    } else {
        reply_infos(h, &go, e);
        take_contexts(h);
        haggling_done(h);
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
    struct export *e = haggling_find_export(h, name);
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
        return haggling_error(h, NBD_REP_ERR_UNSUP, "metadata contexts are switched off");
    if (set)
        meta_contexts_clear(&h->contexts); /* whatever comes of it */
    if (!h->agreed.structured)
        return haggling_error(h, NBD_REP_ERR_INVALID, "structured replies come first");
    uint32_t error = option_parse_meta(h->data, h->length, &queries, &why);
    if (error != 0)
        return haggling_error(h, error, why);
    struct export *e = haggling_find_export(h, queries.name);
    if (!e)
        return NEXT_OPTION;
    if (set)
        error = meta_set(e, &queries, &h->contexts, h->out, &why);
    else
        meta_list(e, &queries, h->out);
    export_unref(e);
    return error != 0 ? haggling_error(h, error, why) : haggling_done(h);
}

/* Forget everything but the client's handshake flags, as if it had just connected. */
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
        return haggling_error(h, NBD_REP_ERR_UNSUP, "TLS is switched off");
    uint32_t error = option_parse_empty(h->length, &empty);
    if (error != 0)
        return haggling_error(h, error, empty);
    if (haggling_uses_tls(h))
        return haggling_error(h, NBD_REP_ERR_INVALID, "this is TLS already");
    if (stream_input_waiting(&c->stream))
        return tls_failed(h, "there is plain text behind NBD_OPT_STARTTLS");
    haggling_done(h);
    int r = haggling_send(h);
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
    return haggling_error(h, NBD_REP_ERR_TLS_REQD, "this server talks only over TLS");
}

enum next handshake_option(struct haggling *h)
{
    if (atomic_load(&h->c->server->clients.ending) && h->option != NBD_OPT_ABORT) {
        if (h->option == NBD_OPT_EXPORT_NAME)
            return NEXT_END;
        return haggling_error(h, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    }
    if (!h->fixed_newstyle && h->option != NBD_OPT_EXPORT_NAME)
        return haggling_error(h, NBD_REP_ERR_INVALID, "options are for fixed newstyle clients");
    if (h->c->server->options.tls_required && !haggling_uses_tls(h) &&
        h->option != NBD_OPT_STARTTLS && h->option != NBD_OPT_ABORT)
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
        return haggling_error(h, NBD_REP_ERR_UNSUP, "the option is not supported");
    }
}
