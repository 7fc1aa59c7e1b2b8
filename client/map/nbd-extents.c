/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/nbd-extents.h"
#include "client/base/error.h"
#include "common/base/deadline.h"
#include "common/copy/nbd-link.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Most bytes that one request asks for: a power of two, so that it suits any block size, and the
 * largest that fits into the 32 bits of NBD's plain headers. */
#define REQUEST_MAX (UINT64_C(1) << 31)

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

/* ---- connecting ---- */

/* An error of connecting as the client's. It is taken over. */
static void connect_failed(GError *why, GError **err)
{
    enum client_error code = CLIENT_ERROR_FAILED;

    if (g_error_matches(why, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_UNREACHABLE))
        code = CLIENT_ERROR_UNREACHABLE;
    else if (g_error_matches(why, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_TLS))
        code = CLIENT_ERROR_TLS;
    else if (g_error_matches(why, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_NO_EXPORT))
        code = CLIENT_ERROR_NO_EXPORT;
    client_fail(err, code, "%s", why->message);
    g_error_free(why);
}

nbd_extents *nbd_extents_open(const char *uri, const char *context, GError **err)
{
    g_autoptr(nbd_extents) n = g_new0(nbd_extents, 1);
    struct nbd_link_options options = {.uri = uri, .context = context};
    struct nbd_link_wait wait = {.stop = {-1, -1}, .until = deadline_in(NBD_LINK_TIME)};
    struct nbd_link_facts facts;
    GError *why = NULL;

    n->context = g_strdup(context);
    n->nbd = nbd_link_open(&options, &wait, &why);
    if (!n->nbd || nbd_link_facts(n->nbd, &facts, &why) < 0) {
        connect_failed(why, err);
        return NULL;
    }
    n->size = facts.size;
    return g_steal_pointer(&n);
}

void nbd_extents_close(nbd_extents *n)
{
    nbd_link_close(n->nbd);
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
    return client_fail(err, CLIENT_ERROR_FAILED, "at %" PRIu64 ": %s", n->position,
                       source_nbd_reason());
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
