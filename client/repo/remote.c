/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/remote.h"
#include "client/repo/remote-uri.h"
#include "client/repo/ssh-forward.h"

struct remote {
    char *host, *certificates;
    char *name;           /* of the host, by ssh's configuration; NULL: not asked for yet */
    GHashTable *forwards; /* what is forwarded: struct ssh_forward * */
};

static void free_forward(void *forward)
{
    ssh_forward_free(forward);
}

struct remote *remote_new(const char *host, const char *certificates)
{
    struct remote *r = g_new0(struct remote, 1);

    r->host = g_strdup(host);
    r->certificates = g_strdup(certificates);
    r->forwards = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_forward);
    return r;
}

void remote_free(struct remote *r)
{
    if (!r)
        return;
    g_hash_table_unref(r->forwards);
    g_free(r->host);
    g_free(r->certificates);
    g_free(r->name);
    g_free(r);
}

const char *remote_socket(struct remote *r, const char *target, GError **err)
{
    struct ssh_forward *f = g_hash_table_lookup(r->forwards, target);

    if (!f) {
        f = ssh_forward_new(r->host, target, err);
        if (!f)
            return NULL;
        g_hash_table_insert(r->forwards, g_strdup(target), f);
    }
    return ssh_forward_socket(f);
}

/* The URI as it is reached through ssh, or at the other host. NULL and *err. */
static char *reach_host(struct remote *r, const char *uri, GError **err)
{
    g_autofree char *target = remote_uri_target(uri);
    const char *socket = target ? remote_socket(r, target, err) : NULL;

    if (target)
        return socket ? remote_uri_by_socket(uri, socket) : NULL;
    if (!r->name)
        r->name = ssh_host_name(r->host, err);
    return r->name ? remote_uri_by_host(uri, r->name) : NULL;
}

char *remote_reach(void *opaque, const char *uri, GError **err)
{
    struct remote *r = opaque;
    g_autofree char *reached = r->host ? reach_host(r, uri, err) : g_strdup(uri);

    if (!reached || !r->certificates)
        return g_steal_pointer(&reached);
    return remote_uri_with_certificates(reached, r->certificates);
}
