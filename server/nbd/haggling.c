/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/haggling.h"

#include "server/nbd/option-reply.h"
#include "server/nbd/tls-peer.h"

int haggling_receive(struct haggling *h, void *buf, size_t length)
{
    return stream_receive_by(&h->c->stream, buf, length, h->deadline);
}

int haggling_send(struct haggling *h)
{
    int r = stream_send_by(&h->c->stream, h->out->data, h->out->len, h->deadline);
    option_budget_use(&h->budget, h->out->len);
    g_byte_array_set_size(h->out, 0);
    return r;
}

enum next haggling_error(struct haggling *h, uint32_t error, const char *why)
{
    char buf[24];
    client_debug(&h->c->client, "%s: %s", option_name(h->option, buf), why);
    option_reply_error(h->out, h->option, error, why);
    return NEXT_OPTION;
}

enum next haggling_done(struct haggling *h)
{
    option_reply(h->out, h->option, NBD_REP_ACK);
    return NEXT_OPTION;
}

bool haggling_uses_tls(const struct haggling *h)
{
    return stream_tls_peer(&h->c->stream) != NULL;
}

/* An export that is not for this client does not exist for it. */
bool haggling_is_for(const struct haggling *h, const struct export *e)
{
    const struct export_info *info = export_info(e);
    const struct tls_peer *peer = stream_tls_peer(&h->c->stream);

    if (info->tls_authz)
        return peer && tls_peer_is_one_of(peer, info->tls_authz);
    return peer || !info->tls_required;
}

/* Lay out why there is no such export. Without TLS the answer is the same for an export that does
 * not exist and for one that only TLS shows. */
static void unknown_export(struct haggling *h, struct text name)
{
    g_autofree char *shown = text_for_display(name, ECHO_MAX);
    bool tls_may_help = h->c->server->options.tls && !haggling_uses_tls(h) &&
                        (h->option == NBD_OPT_INFO || h->option == NBD_OPT_GO);
    g_autofree char *why =
        g_strdup_printf(tls_may_help ? "without TLS there is no export named \"%s\""
                                     : "there is no export named \"%s\"",
                        shown);

    haggling_error(h, tls_may_help ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_UNKNOWN, why);
}

enum export_scope haggling_scope(const struct haggling *h)
{
    return h->c->client.port ? h->c->client.port->admission->scope : EXPORTS_LIVE;
}

struct export *haggling_find_export(struct haggling *h, struct text name)
{
    g_autofree char *key = g_strndup(name.at ? name.at : "", name.length);
    struct export *e = server_find_export(h->c->server->registry, haggling_scope(h), key);

    if (e && !haggling_is_for(h, e)) {
        export_unref(e);
        e = NULL;
    }
    if (!e)
        unknown_export(h, name);
    return e;
}
