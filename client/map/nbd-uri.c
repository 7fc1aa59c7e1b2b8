/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/nbd-uri.h"
#include "client/base/error.h"

#include <stdbool.h>
#include <string.h>

/* The schemes of doc/uri.md, and those that libnbd has beside them. */
static bool is_scheme(const char *uri)
{
    static const char *const schemes[] = {"nbd",       "nbds",       "nbd+unix", "nbds+unix",
                                          "nbd+vsock", "nbds+vsock", "nbd+ssh",  "nbds+ssh"};
    size_t length = strcspn(uri, ":");

    for (size_t i = 0; i < G_N_ELEMENTS(schemes); i++) {
        if (strlen(schemes[i]) == length && g_ascii_strncasecmp(uri, schemes[i], length) == 0)
            return true;
    }
    return false;
}

int nbd_uri_check(const char *uri, GError **err)
{
    g_autoptr(GError) error = NULL;
    int port;

    if (!is_scheme(uri))
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "%s: not an NBD URI: it should begin with nbd://, nbds://, nbd+unix:// "
                           "or the like",
                           uri);
    if (!g_uri_split(uri, G_URI_FLAGS_NONE, NULL, NULL, NULL, &port, NULL, NULL, NULL, &error) &&
        g_error_matches(error, G_URI_ERROR, G_URI_ERROR_BAD_PORT))
        return client_fail(err, CLIENT_ERROR_USAGE, "%s", error->message);
    return 0;
}

char *nbd_uri_with_export(const char *base, const char *name)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);
    const char *authority = strstr(base, "://");
    const char *query = strchr(base, '?');
    gsize head;

    if (!query)
        query = base + strlen(base);
    /* The authority ends where the path or the query begins. */
    authority = authority && authority < query ? authority + 3 : base;
    head = MIN(strcspn(authority, "/"), (gsize)(query - authority)) + (gsize)(authority - base);
    return g_strdup_printf("%.*s/%s%s", (int)head, base, escaped, query);
}
