/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/source-nbd.h"
#include "common/copy/nbd-lanes.h"

/* Batches that a lane may have under way. */
#define BATCHES 2

/* A lane's batches, the older one first. */
struct queue {
    struct nbd_batch batches[BATCHES];
    size_t room[BATCHES];     /* of the batches' requests */
    unsigned started, waited; /* batches, ever */
};

struct source_nbd {
    struct copy_source source;
    char *uri, *context;
    struct nbd_lanes lanes;
    struct queue *queues; /* one for each lane */
    struct nbd_map *map;
};

static struct source_nbd *source_nbd(struct copy_source *s)
{
    return (struct source_nbd *)s;
}

/* ---- extents ---- */

static int extents(struct copy_source *source, unsigned lane, uint64_t offset, uint64_t length,
                   copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct source_nbd *s = source_nbd(source);
    struct nbd_request request = {.kind = NBD_REQUEST_MAP,
                                  .offset = offset,
                                  .length = MIN(length, NBD_LANES_RANGE),
                                  .map = s->map};
    struct nbd_batch batch = {.requests = &request, .n = 1};

    nbd_lane_start(s->lanes.lane[lane], &batch);
    if (nbd_lane_wait(s->lanes.lane[lane], &batch, err) < 0)
        return -1;
    if (s->context && !nbd_map_is_answered(s->map))
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED,
                               "at %" G_GUINT64_FORMAT ": the server's answer tells nothing of %s",
                               offset, s->context);
    return nbd_map_tell(s->map, sink, opaque, end, err);
}

/* ---- reading ---- */

static int read_start(struct copy_source *source, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err)
{
    struct source_nbd *s = source_nbd(source);
    struct queue *q = &s->queues[lane];
    unsigned which = q->started++ % BATCHES;
    struct nbd_batch *b = &q->batches[which];

    if (q->room[which] < n) {
        b->requests = g_renew(struct nbd_request, b->requests, n);
        q->room[which] = n;
    }
    b->n = n;
    for (size_t i = 0; i < n; i++)
        b->requests[i] = (struct nbd_request){.kind = NBD_REQUEST_READ,
                                              .offset = pieces[i].offset,
                                              .length = pieces[i].length,
                                              .data = pieces[i].data};
    nbd_lane_start(s->lanes.lane[lane], b);
    return 0;
}

static int read_wait(struct copy_source *source, unsigned lane, GError **err)
{
    struct source_nbd *s = source_nbd(source);
    struct queue *q = &s->queues[lane];

    return nbd_lane_wait(s->lanes.lane[lane], &q->batches[q->waited++ % BATCHES], err);
}

static int trim(struct copy_source *source, unsigned lane, uint64_t offset, uint64_t length,
                GError **err)
{
    return nbd_lanes_range(&source_nbd(source)->lanes, lane, NBD_REQUEST_TRIM, offset, length, err);
}

/* ---- beginning and end ---- */

static void cancel(struct copy_source *source)
{
    nbd_lanes_cancel(&source_nbd(source)->lanes);
}

static void free_source(struct copy_source *source)
{
    struct source_nbd *s = source_nbd(source);

    nbd_lanes_close(&s->lanes);
    for (unsigned i = 0; i < source->lanes; i++)
        for (unsigned b = 0; b < BATCHES; b++)
            g_free(s->queues[i].batches[b].requests);
    g_free(s->queues);
    nbd_map_free(s->map);
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

static int open_source(struct source_nbd *s, const struct source_nbd_options *o, GError **err)
{
    struct nbd_lanes_options lanes = {
        .link = {.uri = s->uri, .context = s->context, .allocation = true},
        .connections = o->connections,
        .retry = o->retry,
        .trim = o->trim,
        .awaited = o->awaited,
        .interrupt = o->interrupt,
    };
    const struct nbd_link_facts *facts = &s->lanes.facts;

    if (nbd_lanes_open(&s->lanes, &lanes, err) < 0)
        return -1;
    if (o->trim && (facts->read_only || !facts->can_trim))
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED, "the export does not take TRIM");
    /* A view that takes TRIM is not announced as read-only, or clients would not trim it. No server
     * takes WRITE_ZEROES where it takes no writes. */
    if (o->trim && facts->can_zero)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED,
                               "the export is a disk that can be written: --discard would "
                               "destroy it");
    s->map = nbd_map_new(
        &(struct nbd_map_disk){.align = facts->align, .has_context = s->context != NULL});
    s->queues = g_new0(struct queue, s->lanes.n);
    s->source.size = facts->size;
    s->source.lanes = s->lanes.n;
    s->source.align = facts->align;
    s->source.max_read = facts->max;
    return 0;
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
