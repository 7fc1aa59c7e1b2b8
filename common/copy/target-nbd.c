/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is durable. A flush is sent on each connection on which something was written since its last
 * one, whatever the server says of multi-conn. A connection that ends with writes that are not flushed
 * ends the copy (nbd-lane.c): the server may have lost them, and they are not here any more. So where
 * sync and finish succeed, all that they cover was written and flushed on connections that lived from
 * the one to the other.
 */
#include "common/copy/nbd-lanes.h"
#include "common/copy/targets.h"

#include <inttypes.h>

/* Zeroes that are written to a server which cannot make them itself. */
#define ZEROES (UINT32_C(1) << 20)

struct target_nbd {
    struct copy_target target;
    char *uri;
    struct nbd_lanes lanes;
    bool clean;
    uint8_t *zeroes; /* ZEROES bytes; NULL: the server makes zeroes itself */
};

static struct target_nbd *target_nbd(struct copy_target *t)
{
    return (struct target_nbd *)t;
}

static int write_pieces(struct copy_target *target, unsigned lane, const struct copy_piece *pieces,
                        size_t n, GError **err)
{
    struct nbd_lane *l = target_nbd(target)->lanes.lane[lane];
    g_autofree struct nbd_request *requests = g_new0(struct nbd_request, n);
    struct nbd_batch batch = {.requests = requests, .n = n};

    for (size_t i = 0; i < n; i++)
        requests[i] = (struct nbd_request){.kind = NBD_REQUEST_WRITE,
                                           .offset = pieces[i].offset,
                                           .length = pieces[i].length,
                                           .data = pieces[i].data};
    nbd_lane_start(l, &batch);
    return nbd_lane_wait(l, &batch, err);
}

static int write_zeroes(struct target_nbd *t, unsigned lane, uint64_t offset, uint64_t length,
                        GError **err)
{
    uint32_t most = MIN(ZEROES, t->target.max_write);

    while (length > 0) {
        struct copy_piece piece = {
            .offset = offset, .length = MIN(length, most), .data = t->zeroes};

        if (write_pieces(&t->target, lane, &piece, 1, err) < 0)
            return -1;
        offset += piece.length;
        length -= piece.length;
    }
    return 0;
}

static int zero(struct copy_target *target, unsigned lane, uint64_t offset, uint64_t length,
                GError **err)
{
    struct target_nbd *t = target_nbd(target);

    if (t->clean)
        return 0;
    if (t->zeroes)
        return write_zeroes(t, lane, offset, length, err);
    return nbd_lanes_range(&t->lanes, lane, NBD_REQUEST_ZERO, offset, length, err);
}

/* Flush all connections that need it, at once. */
static int sync_all(struct copy_target *target, GError **err)
{
    struct target_nbd *t = target_nbd(target);
    unsigned n = t->lanes.n;
    g_autofree struct nbd_request *requests = g_new0(struct nbd_request, n);
    g_autofree struct nbd_batch *batches = g_new0(struct nbd_batch, n);
    int result = 0;

    if (!t->lanes.facts.can_flush)
        return 0; /* the server promises nothing, or needs no flush */
    for (unsigned i = 0; i < n; i++) {
        if (!nbd_lane_is_unflushed(t->lanes.lane[i]))
            continue;
        requests[i].kind = NBD_REQUEST_FLUSH;
        batches[i] = (struct nbd_batch){.requests = &requests[i], .n = 1};
        nbd_lane_start(t->lanes.lane[i], &batches[i]);
    }
    for (unsigned i = 0; i < n; i++)
        if (batches[i].n > 0 &&
            nbd_lane_wait(t->lanes.lane[i], &batches[i], result == 0 ? err : NULL) < 0)
            result = -1;
    return result;
}

static void cancel(struct copy_target *target)
{
    nbd_lanes_cancel(&target_nbd(target)->lanes);
}

static void free_target(struct copy_target *target)
{
    struct target_nbd *t = target_nbd(target);

    nbd_lanes_close(&t->lanes);
    g_free(t->zeroes);
    g_free(t->uri);
    g_free(t);
}

static const struct copy_target_ops ops = {
    .write = write_pieces,
    .zero = zero,
    .sync = sync_all,
    .finish = sync_all,
    .cancel = cancel,
    .free = free_target,
};

static int check(const struct nbd_link_facts *facts, uint64_t size, GError **err)
{
    if (facts->read_only)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED, "the export is read-only");
    if (facts->size < size)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED,
                               "the export has %" PRIu64 " bytes, and %" PRIu64 " are needed",
                               facts->size, size);
    return 0;
}

static int open_target(struct target_nbd *t, const struct target_nbd_options *o, GError **err)
{
    struct nbd_lanes_options lanes = {
        .link = {.uri = t->uri},
        .connections = o->connections,
        .retry = o->retry,
        .interrupt = o->interrupt,
    };
    const struct nbd_link_facts *facts = &t->lanes.facts;

    if (nbd_lanes_open(&t->lanes, &lanes, err) < 0 || check(facts, o->size, err) < 0)
        return -1;
    t->target.size = facts->size;
    t->target.lanes = t->lanes.n;
    t->target.align = facts->align;
    t->target.max_write = facts->max;
    if (!facts->can_zero)
        t->zeroes = g_malloc0(ZEROES);
    return 0;
}

struct copy_target *target_nbd_new(const struct target_nbd_options *o, GError **err)
{
    struct target_nbd *t = g_new0(struct target_nbd, 1);

    t->target.ops = &ops;
    t->uri = g_strdup(o->uri);
    t->clean = o->clean;
    if (open_target(t, o, err) < 0) {
        free_target(&t->target);
        return NULL;
    }
    return &t->target;
}
