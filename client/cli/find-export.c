/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/find-export.h"
#include "client/base/error.h"
#include "client/map/nbd-uri.h"

#include <stdbool.h>
#include <string.h>

static bool is_unix(const char *uri)
{
    return g_str_has_prefix(uri, "nbd+unix:") || g_str_has_prefix(uri, "nbds+unix:");
}

/* The best socket of those that serve the disks (live), or of the others: a Unix socket, else the
 * first one. NULL if there is none. */
static const char *choose_uri(const GArray *sockets, bool live)
{
    const char *first = NULL;

    for (guint i = 0; i < sockets->len; i++) {
        const struct nbd_socket *s = &g_array_index(sockets, struct nbd_socket, i);

        if (s->live == live && is_unix(s->uri))
            return s->uri;
        if (s->live == live && !first)
            first = s->uri;
    }
    return first;
}

/* A URI at which only exports that were added are served. It is an error if `export` is the name of
 * a disk: there, another export may have that name. NULL and *err. */
static const char *choose_added(struct client *c, const GArray *sockets, const char *export,
                                GError **err)
{
    const char *uri = choose_uri(sockets, false);
    g_autoptr(inventory) i = NULL;

    if (!uri) {
        client_fail(err, CLIENT_ERROR_FAILED, "the server has no NBD socket");
        return NULL;
    }
    i = client_inventory(c, err);
    if (!i)
        return NULL;
    if (inventory_find_disk(i, export, NULL)) {
        client_fail(err, CLIENT_ERROR_FAILED, "the server has no NBD socket for its disks");
        return NULL;
    }
    return uri;
}

char *find_export(struct client *c, const char *export, GError **err)
{
    g_autoptr(JsonNode) reply = NULL;
    struct qmp *qmp = client_qmp(c, err);
    g_autoptr(GArray) sockets = qmp ? inventory_nbd_sockets(qmp, &reply, err) : NULL;
    const char *uri;

    if (!sockets) {
        g_prefix_error(err, "where %s is served: ", export);
        return NULL;
    }
    uri = choose_uri(sockets, true);
    if (!uri)
        uri = choose_added(c, sockets, export, err);
    if (!uri) {
        g_prefix_error(err, "where %s is served: ", export);
        return NULL;
    }
    return nbd_uri_with_export(uri, export);
}

/* Is `name` a view of the server, which therefore may have no export of that name? */
static bool is_view(struct client *c, const char *name)
{
    g_autoptr(inventory) i = client_inventory(c, NULL);

    for (guint n = 0; i && n < i->views->len; n++) {
        if (strcmp(g_array_index(i->views, struct view_entry, n).name, name) == 0)
            return true;
    }
    return false;
}

bool find_export_explain(struct client *c, const char *export, GError **error)
{
    if (!g_error_matches(*error, CLIENT_ERROR, CLIENT_ERROR_NO_EXPORT) || !is_view(c, export))
        return false;
    g_clear_error(error);
    client_fail(error, CLIENT_ERROR_FAILED, "it is a view: export it first, by block-export-add");
    return true;
}
