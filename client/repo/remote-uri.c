/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/remote-uri.h"

#include <stdbool.h>
#include <string.h>

#define NBD_PORT 10809

static GUri *parse(const char *text)
{
    return g_uri_parse(text, G_URI_FLAGS_ENCODED, NULL);
}

static bool is_tls(GUri *uri)
{
    return g_str_has_prefix(g_uri_get_scheme(uri), "nbds");
}

static bool is_unix(GUri *uri)
{
    return g_str_has_suffix(g_uri_get_scheme(uri), "+unix");
}

/* Does its host mean the host itself, whoever says it? */
static bool is_loopback(GUri *uri)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "::1", NULL};
    const char *host = g_uri_get_host(uri);

    return !is_unix(uri) && (!host || *host == '\0' || g_strv_contains(names, host));
}

/* The value of a parameter of the query, encoded; NULL: it is not there. */
static char *parameter(GUri *uri, const char *name)
{
    g_auto(GStrv) all = g_strsplit(g_uri_get_query(uri) ? g_uri_get_query(uri) : "", "&", -1);

    for (char **p = all; *p; p++) {
        const char *equals = strchr(*p, '=');

        if (equals && (size_t)(equals - *p) == strlen(name) && g_str_has_prefix(*p, name))
            return g_strdup(equals + 1);
    }
    return NULL;
}

/* The query with one parameter set, which is encoded here. */
static char *with_parameter(GUri *uri, const char *name, const char *value)
{
    g_auto(GStrv) all = g_strsplit(g_uri_get_query(uri) ? g_uri_get_query(uri) : "", "&", -1);
    g_autofree char *escaped = g_uri_escape_string(value, "/", FALSE);
    GString *query = g_string_new(NULL);

    for (char **p = all; *p; p++) {
        if (**p != '\0' && !(g_str_has_prefix(*p, name) && (*p)[strlen(name)] == '='))
            g_string_append_printf(query, "%s&", *p);
    }
    g_string_append_printf(query, "%s=%s", name, escaped);
    return g_string_free(query, FALSE);
}

char *remote_uri_target(const char *text)
{
    g_autoptr(GUri) uri = parse(text);
    g_autofree char *socket = NULL;
    int port;

    if (!uri)
        return NULL;
    if (is_unix(uri)) {
        socket = parameter(uri, "socket");
        return socket ? g_uri_unescape_string(socket, NULL) : NULL;
    }
    if (is_tls(uri) || !is_loopback(uri))
        return NULL;
    port = g_uri_get_port(uri);
    return g_strdup_printf("localhost:%d", port > 0 ? port : NBD_PORT);
}

static char *by_socket(GUri *uri, const char *path)
{
    g_autofree char *query = with_parameter(uri, "socket", path);
    g_autoptr(GUri) changed =
        g_uri_build(G_URI_FLAGS_ENCODED, is_tls(uri) ? "nbds+unix" : "nbd+unix",
                    g_uri_get_userinfo(uri), "", -1, g_uri_get_path(uri), query, NULL);

    return g_uri_to_string(changed);
}

static char *by_host(GUri *uri, const char *host)
{
    g_autoptr(GUri) changed =
        g_uri_build(G_URI_FLAGS_ENCODED, g_uri_get_scheme(uri), g_uri_get_userinfo(uri), host,
                    g_uri_get_port(uri), g_uri_get_path(uri), g_uri_get_query(uri), NULL);

    return is_tls(uri) && is_loopback(uri) ? g_uri_to_string(changed) : NULL;
}

static char *with_certificates(GUri *uri, const char *folder)
{
    g_autofree char *there = parameter(uri, "tls-certificates");
    g_autofree char *query = with_parameter(uri, "tls-certificates", folder);
    g_autoptr(GUri) changed =
        g_uri_build(G_URI_FLAGS_ENCODED, g_uri_get_scheme(uri), g_uri_get_userinfo(uri),
                    g_uri_get_host(uri), g_uri_get_port(uri), g_uri_get_path(uri), query, NULL);

    return is_tls(uri) && !there ? g_uri_to_string(changed) : NULL;
}

/* The URI, changed by `how`; as it is where that returns NULL, or where it is none. */
static char *changed(const char *text, char *(*how)(GUri *, const char *), const char *argument)
{
    g_autoptr(GUri) uri = parse(text);
    char *result = uri ? how(uri, argument) : NULL;

    return result ? result : g_strdup(text);
}

char *remote_uri_by_socket(const char *uri, const char *path)
{
    return changed(uri, by_socket, path);
}

char *remote_uri_by_host(const char *uri, const char *host)
{
    return changed(uri, by_host, host);
}

char *remote_uri_with_certificates(const char *uri, const char *folder)
{
    return changed(uri, with_certificates, folder);
}
