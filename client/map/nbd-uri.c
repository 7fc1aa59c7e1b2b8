/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/nbd-uri.h"
#include "client/base/error.h"

#include <string.h>

int nbd_uri_check(const char *uri, GError **err)
{
    g_autoptr(GError) error = NULL;
    int port;

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
