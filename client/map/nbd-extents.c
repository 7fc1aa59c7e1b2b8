/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/nbd-extents.h"
#include "client/base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <string.h>

/* Most bytes that one request asks for: a power of two, so that it suits any block size, and the
 * largest that fits into the 32 bits of NBD's plain headers. */
#define REQUEST_MAX (UINT64_C(1) << 31)

/* Most names that an error lists. */
#define LISTED_MAX 12

struct nbd_extents {
    struct nbd_handle *nbd;
    char *context;
    uint64_t size;

    /* while reading */
    nbd_extents_sink sink;
    void *opaque;
    GError *error;     /* the sink's */
    uint64_t position; /* up to here the server has answered */
    uint64_t start;    /* the extent not yet told: from start to position */
    uint32_t flags;
};

/* libnbd's error of the last call. */
static int nbd_fail(GError **err, enum client_error code)
{
    const char *why = nbd_get_error();

    return client_fail(err, code, "%s", why ? why : "libnbd failed");
}

/* ---- connecting ---- */

/* Names gathered for an error. */
struct name_list {
    GString *text;
    unsigned count;
};

static int add_name(struct name_list *list, const char *name)
{
    if (list->count++ < LISTED_MAX)
        g_string_append_printf(list->text, "%s%s", list->text->len > 0 ? ", " : "", name);
    return 0;
}

static int add_context(void *opaque, const char *name)
{
    return add_name(opaque, name);
}

static int add_export(void *opaque, const char *name, const char *description)
{
    return add_name(opaque, *name != '\0' ? name : "\"\"");
}

static int lacks(GError **err, enum client_error code, const char *what,
                 const struct name_list *list)
{
    return client_fail(err, code, "%s; it has %s%s", what,
                       list->count > 0 ? list->text->str : "none",
                       list->count > LISTED_MAX ? " and more" : "");
}

static int go_failed(nbd_extents *n, GError **err)
{
    g_autoptr(GString) text = g_string_new(NULL);
    struct name_list list = {.text = text};
    nbd_list_callback callback = {.callback = add_export, .user_data = &list};
    bool unknown = nbd_get_errno() == ENOENT;

    nbd_fail(err, CLIENT_ERROR_FAILED); /* before another call replaces the reason */
    if (unknown && nbd_aio_is_negotiating(n->nbd) == 1) {
        nbd_opt_list(n->nbd, callback);
        g_clear_error(err);
        return lacks(err, CLIENT_ERROR_NO_EXPORT, "the server has no such export", &list);
    }
    return -1;
}

/* Leave the server in order, whatever state the connection is in. */
static void disconnect(struct nbd_handle *nbd)
{
    if (!nbd)
        return;
    /* If the server has gone meanwhile, nothing is lost: errors are ignored. */
    if (nbd_aio_is_negotiating(nbd) == 1)
        nbd_opt_abort(nbd);
    else if (nbd_aio_is_ready(nbd) == 1)
        nbd_shutdown(nbd, 0);
    nbd_close(nbd);
}

/* Connect up to the negotiation of options, if the server has one. The URI comes from the user, or
 * from the server behind the user's control socket, so it may name files of certificates and
 * keys. */
static struct nbd_handle *connect_uri(const char *uri)
{
    struct nbd_handle *nbd = nbd_create();

    if (nbd && (nbd_set_opt_mode(nbd, true) < 0 || nbd_set_uri_allow_local_file(nbd, true) < 0 ||
                nbd_connect_uri(nbd, uri) < 0)) {
        nbd_close(nbd);
        return NULL;
    }
    return nbd;
}

/* The export lacks the context. The contexts that it has can be asked for only before GO, so
 * connect once more. */
static int no_context(nbd_extents *n, const char *uri, GError **err)
{
    g_autofree char *what = g_strdup_printf("the export has no context %s", n->context);
    g_autoptr(GString) text = g_string_new(NULL);
    struct name_list list = {.text = text};
    nbd_context_callback callback = {.callback = add_context, .user_data = &list};

    disconnect(n->nbd);
    n->nbd = connect_uri(uri);
    /* No context has been asked for on this connection, which means all. */
    if (!n->nbd || nbd_aio_is_negotiating(n->nbd) != 1 ||
        nbd_opt_list_meta_context(n->nbd, callback) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s", what);
    return lacks(err, CLIENT_ERROR_FAILED, what, &list);
}

/* Ask for the context and enter the transmission phase. */
static int negotiate(nbd_extents *n, GError **err)
{
    if (nbd_aio_is_negotiating(n->nbd) != 1)
        return 0; /* an old server, which knows no options */
    if (nbd_add_meta_context(n->nbd, n->context) < 0)
        return nbd_fail(err, CLIENT_ERROR_FAILED);
    return nbd_opt_go(n->nbd) == 0 ? 0 : go_failed(n, err);
}

/* Refuse a port above 65535, of which libnbd would take the last 16 bits. */
static int check_port(const char *uri, GError **err)
{
    g_autoptr(GError) error = NULL;
    int port;

    if (!g_uri_split(uri, G_URI_FLAGS_NONE, NULL, NULL, NULL, &port, NULL, NULL, NULL, &error) &&
        g_error_matches(error, G_URI_ERROR, G_URI_ERROR_BAD_PORT))
        return client_fail(err, CLIENT_ERROR_USAGE, "%s", error->message);
    return 0;
}

nbd_extents *nbd_extents_open(const char *uri, const char *context, GError **err)
{
    g_autoptr(nbd_extents) n = g_new0(nbd_extents, 1);
    int64_t size;

    if (check_port(uri, err) < 0)
        return NULL;
    n->context = g_strdup(context);
    n->nbd = connect_uri(uri);
    if (!n->nbd) {
        nbd_fail(err, CLIENT_ERROR_UNREACHABLE);
        return NULL;
    }
    if (negotiate(n, err) < 0)
        return NULL;
    if (nbd_can_meta_context(n->nbd, n->context) != 1) {
        no_context(n, uri, err);
        return NULL;
    }
    size = nbd_get_size(n->nbd);
    if (size < 0) {
        nbd_fail(err, CLIENT_ERROR_FAILED);
        return NULL;
    }
    n->size = (uint64_t)size;
    return g_steal_pointer(&n);
}

void nbd_extents_close(nbd_extents *n)
{
    disconnect(n->nbd);
    g_clear_error(&n->error);
    g_free(n->context);
    g_free(n);
}

uint64_t nbd_extents_size(const nbd_extents *n)
{
    return n->size;
}

/* ---- reading ---- */

/* Tell the sink about the extent that ends at n->position. */
static int tell(nbd_extents *n)
{
    uint64_t start = n->start;

    n->start = n->position;
    return n->position > start ? n->sink(n->opaque, start, n->position - start, n->flags, &n->error)
                               : 0;
}

/* Take a piece of a reply. Replies may cover less than what was asked for, or more; pieces of other
 * contexts are passed over. */
static int take_entries(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    nbd_extents *n = opaque;

    if (strcmp(context, n->context) != 0 || offset != n->position)
        return 0;
    for (size_t i = 0; i + 1 < count && n->position < n->size; i += 2) {
        uint64_t length = MIN(entries[i], n->size - n->position);

        if (n->position > n->start && entries[i + 1] != n->flags && tell(n) < 0) {
            *error = ECANCELED;
            return -1;
        }
        n->flags = entries[i + 1];
        n->position += length;
    }
    return 0;
}

static int read_failed(nbd_extents *n, GError **err)
{
    if (n->error) {
        g_propagate_error(err, g_steal_pointer(&n->error));
        return -1;
    }
    nbd_fail(err, CLIENT_ERROR_FAILED);
    g_prefix_error(err, "at %" PRIu64 ": ", n->position);
    return -1;
}

int nbd_extents_read(nbd_extents *n, nbd_extents_sink sink, void *opaque, GError **err)
{
    nbd_extent_callback callback = {.callback = take_entries, .user_data = n};

    n->sink = sink;
    n->opaque = opaque;
    n->position = n->start = 0;
    while (n->position < n->size) {
        uint64_t before = n->position;

        if (nbd_block_status(n->nbd, MIN(n->size - before, REQUEST_MAX), before, callback, 0) < 0)
            return read_failed(n, err);
        if (n->position == before)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "at %" PRIu64 ": the server's answer covers nothing", before);
    }
    return tell(n) == 0 ? 0 : read_failed(n, err);
}

/* ---- URIs ---- */

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
