/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/source-nbd.h"
#include "common/base/deadline.h"
#include "common/copy/nbd-lane.h"

#define CONNECTIONS_DEFAULT 4
#define CONNECTIONS_MAX     64

/* Batches that a lane may have under way. */
#define BATCHES 2

/* Longest range that is asked about, or trimmed, at once: a power of two, so that it suits any
 * block size, and the largest that fits into the 32 bits of NBD's plain headers. */
#define RANGE_MAX (UINT64_C(1) << 31)

/* Time for all connections but the first: a server that lets in fewer may let the others hang.
 * Microseconds. */
#define MORE_TIME (5 * INT64_C(1000000))

struct lane {
    struct nbd_lane *lane;
    struct nbd_batch batches[BATCHES];
    size_t room[BATCHES];     /* of the batches' requests */
    unsigned started, waited; /* batches, ever */
};

struct source_nbd {
    struct copy_source source;
    char *uri, *context;
    struct lane *lanes;
    struct nbd_map *map;
    bool can_map; /* there is something to ask the server for */
};

static struct source_nbd *source_nbd(struct copy_source *s)
{
    return (struct source_nbd *)s;
}

/* ---- extents ---- */

/* Ask the server about a range, and wait. */
static int ask_map(struct source_nbd *s, unsigned lane, uint64_t offset, uint64_t length,
                   GError **err)
{
    struct nbd_request request = {
        .kind = NBD_REQUEST_MAP, .offset = offset, .length = length, .map = s->map};
    struct nbd_batch batch = {.requests = &request, .n = 1};

    if (!s->can_map) {
        nbd_map_ask(s->map, offset, length);
        return 0;
    }
    nbd_lane_start(s->lanes[lane].lane, &batch);
    if (nbd_lane_wait(s->lanes[lane].lane, &batch, err) < 0)
        return -1;
    if (s->context && !nbd_map_is_answered(s->map))
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED,
                               "at %" G_GUINT64_FORMAT ": the server's answer tells nothing of %s",
                               offset, s->context);
    return 0;
}

static int extents(struct copy_source *source, unsigned lane, uint64_t offset, uint64_t length,
                   copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct source_nbd *s = source_nbd(source);

    if (ask_map(s, lane, offset, MIN(length, RANGE_MAX), err) < 0)
        return -1;
    return nbd_map_tell(s->map, sink, opaque, end, err);
}

/* ---- reading ---- */

static int read_start(struct copy_source *source, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err)
{
    struct lane *l = &source_nbd(source)->lanes[lane];
    unsigned which = l->started++ % BATCHES;
    struct nbd_batch *b = &l->batches[which];

    if (l->room[which] < n) {
        b->requests = g_renew(struct nbd_request, b->requests, n);
        l->room[which] = n;
    }
    b->n = n;
    for (size_t i = 0; i < n; i++)
        b->requests[i] = (struct nbd_request){.kind = NBD_REQUEST_READ,
                                              .offset = pieces[i].offset,
                                              .length = pieces[i].length,
                                              .data = pieces[i].data};
    nbd_lane_start(l->lane, b);
    return 0;
}

static int read_wait(struct copy_source *source, unsigned lane, GError **err)
{
    struct lane *l = &source_nbd(source)->lanes[lane];

    return nbd_lane_wait(l->lane, &l->batches[l->waited++ % BATCHES], err);
}

static int trim(struct copy_source *source, unsigned lane, uint64_t offset, uint64_t length,
                GError **err)
{
    struct lane *l = &source_nbd(source)->lanes[lane];

    while (length > 0) {
        uint64_t part = MIN(length, RANGE_MAX);
        struct nbd_request request = {.kind = NBD_REQUEST_TRIM, .offset = offset, .length = part};
        struct nbd_batch batch = {.requests = &request, .n = 1};

        nbd_lane_start(l->lane, &batch);
        if (nbd_lane_wait(l->lane, &batch, err) < 0)
            return -1;
        offset += part;
        length -= part;
    }
    return 0;
}

/* ---- beginning and end ---- */

static void cancel(struct copy_source *source)
{
    for (unsigned i = 0; i < source->lanes; i++)
        nbd_lane_cancel(source_nbd(source)->lanes[i].lane);
}

static void free_source(struct copy_source *source)
{
    struct source_nbd *s = source_nbd(source);

    for (unsigned i = 0; i < source->lanes; i++) {
        nbd_lane_free(s->lanes[i].lane);
        for (unsigned b = 0; b < BATCHES; b++)
            g_free(s->lanes[i].batches[b].requests);
    }
    nbd_map_free(s->map);
    g_free(s->lanes);
    g_free(s->uri);
    g_free(s->context);
    g_free(s);
}

static const struct copy_source_ops ops = {
    .extents = extents,
    .read_start = read_start,
    .read_wait = read_wait,
    .trim = trim,
    .cancel = cancel,
    .free = free_source,
};

static int check(const struct source_nbd_options *o, const struct nbd_link_facts *facts,
                 GError **err)
{
    if (!o->trim)
        return 0;
    if (facts->read_only || !facts->can_trim)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED, "the export does not take TRIM");
    return 0;
}

/* Make a lane of a connection, which is taken over. */
static int add_lane(struct source_nbd *s, const struct nbd_lane_options *o, struct nbd_handle *nbd,
                    GError **err)
{
    struct nbd_lane *lane = nbd_lane_new(o, nbd, err);

    if (!lane)
        return -1;
    s->lanes[s->source.lanes++].lane = lane;
    return 0;
}

/* Connect some more times. A server that does not let in so many clients lets the rest fail or hang:
 * then those there are do. */
static int add_lanes(struct source_nbd *s, const struct nbd_lane_options *o, unsigned most,
                     struct nbd_link_wait *wait, GError **err)
{
    wait->until = deadline_in(MORE_TIME);
    while (s->source.lanes < most) {
        g_autoptr(GError) error = NULL;
        struct nbd_handle *nbd = nbd_link_open(&o->link, wait, &error);

        if (!nbd && g_error_matches(error, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_CANCELLED)) {
            g_propagate_error(err, g_steal_pointer(&error));
            return -1;
        }
        if (!nbd)
            return 0;
        if (add_lane(s, o, nbd, err) < 0)
            return -1;
    }
    return 0;
}

/* Make the first connection, learn of the export, and make the others. */
static int open_source(struct source_nbd *s, const struct source_nbd_options *o, GError **err)
{
    struct nbd_link_wait wait = {.stop = {o->interrupt > 0 ? o->interrupt : -1, -1},
                                 .until = deadline_in(NBD_LINK_TIME)};
    struct nbd_lane_options lane = {
        .link = {.uri = s->uri, .context = s->context, .allocation = true}, .retry = o->retry};
    unsigned most = MIN(o->connections ? o->connections : CONNECTIONS_DEFAULT, CONNECTIONS_MAX);
    struct nbd_handle *nbd = nbd_link_open(&lane.link, &wait, err);

    if (!nbd)
        return -1;
    if (nbd_link_facts(nbd, &lane.facts, err) < 0 || check(o, &lane.facts, err) < 0) {
        nbd_link_close(nbd);
        return -1;
    }
    s->source.size = lane.facts.size;
    s->source.align = lane.facts.align;
    s->source.max_read = lane.facts.max;
    s->can_map = s->context || lane.facts.allocation;
    s->map = nbd_map_new(
        &(struct nbd_map_disk){.align = lane.facts.align, .has_context = s->context != NULL});
    s->lanes = g_new0(struct lane, most);
    if (add_lane(s, &lane, nbd, err) < 0)
        return -1;
    return lane.facts.multi_conn ? add_lanes(s, &lane, most, &wait, err) : 0;
}

struct copy_source *source_nbd_new(const struct source_nbd_options *o, GError **err)
{
    struct source_nbd *s = g_new0(struct source_nbd, 1);

    s->source.ops = &ops;
    s->uri = g_strdup(o->uri);
    s->context = g_strdup(o->context);
    if (open_source(s, o, err) < 0) {
        free_source(&s->source);
        return NULL;
    }
    return &s->source;
}
