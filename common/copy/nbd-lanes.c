/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/nbd-lanes.h"
#include "common/base/deadline.h"

#define CONNECTIONS_DEFAULT 4
#define CONNECTIONS_MAX     64

/* Time for all connections but the first: a server that lets in fewer may let the others hang.
 * Microseconds. */
#define MORE_TIME (5 * INT64_C(1000000))

/* Between two attempts to reach a server that is awaited, microseconds. */
#define PAUSE INT64_C(200000)

/* Make a lane of a connection, which is taken over. */
static int add_lane(struct nbd_lanes *l, const struct nbd_lane_options *o, struct nbd_handle *nbd,
                    GError **err)
{
    l->lane[l->n] = nbd_lane_new(o, nbd, err);
    if (!l->lane[l->n])
        return -1;
    l->n++;
    return 0;
}

/* Connect some more times. A server that does not let in so many clients lets the rest fail or hang:
 * then those there are do. */
static int add_lanes(struct nbd_lanes *l, const struct nbd_lane_options *o, unsigned most,
                     struct nbd_link_wait *wait, GError **err)
{
    wait->until = deadline_in(MORE_TIME);
    while (l->n < most) {
        g_autoptr(GError) error = NULL;
        struct nbd_handle *nbd = nbd_link_open(&o->link, wait, &error);

        if (!nbd && g_error_matches(error, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_CANCELLED)) {
            g_propagate_error(err, g_steal_pointer(&error));
            return -1;
        }
        if (!nbd)
            return 0;
        if (add_lane(l, o, nbd, err) < 0)
            return -1;
    }
    return 0;
}

/* The first connection; a server that is awaited may come late. */
static struct nbd_handle *open_first(const struct nbd_lanes_options *o, struct nbd_link_wait *wait,
                                     GError **err)
{
    int64_t end = deadline_in(o->awaited ? o->retry * INT64_C(1000000) : 0);

    for (;;) {
        g_autoptr(GError) error = NULL;
        struct nbd_handle *nbd;

        wait->until = deadline_in(NBD_LINK_TIME);
        nbd = nbd_link_open(&o->link, wait, &error);
        if (nbd)
            return nbd;
        if (!g_error_matches(error, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_UNREACHABLE) ||
            deadline_in(PAUSE) >= end) {
            g_propagate_error(err, g_steal_pointer(&error));
            return NULL;
        }
        wait->until = deadline_in(PAUSE);
        nbd_link_pause(wait); /* where it is interrupted, the next connection says so */
    }
}

int nbd_lanes_open(struct nbd_lanes *l, const struct nbd_lanes_options *o, GError **err)
{
    struct nbd_link_wait wait = {.stop = {o->interrupt > 0 ? o->interrupt : -1, -1}};
    struct nbd_lane_options lane = {.link = o->link, .retry = o->retry, .trim = o->trim};
    unsigned most = MIN(o->connections ? o->connections : CONNECTIONS_DEFAULT, CONNECTIONS_MAX);
    struct nbd_handle *nbd = open_first(o, &wait, err);

    if (!nbd)
        return -1;
    if (nbd_link_facts(nbd, &lane.facts, err) < 0) {
        nbd_link_close(nbd);
        return -1;
    }
    l->facts = lane.facts;
    l->lane = g_new0(struct nbd_lane *, most);
    if (add_lane(l, &lane, nbd, err) < 0)
        return -1;
    return lane.facts.multi_conn ? add_lanes(l, &lane, most, &wait, err) : 0;
}

void nbd_lanes_close(struct nbd_lanes *l)
{
    for (unsigned i = 0; i < l->n; i++)
        nbd_lane_free(l->lane[i]);
    g_free(l->lane);
}

void nbd_lanes_cancel(struct nbd_lanes *l)
{
    for (unsigned i = 0; i < l->n; i++)
        nbd_lane_cancel(l->lane[i]);
}

int nbd_lanes_range(struct nbd_lanes *l, unsigned lane, enum nbd_request_kind kind, uint64_t offset,
                    uint64_t length, GError **err)
{
    while (length > 0) {
        uint64_t part = MIN(length, NBD_LANES_RANGE);
        struct nbd_request request = {.kind = kind, .offset = offset, .length = part};
        struct nbd_batch batch = {.requests = &request, .n = 1};

        nbd_lane_start(l->lane[lane], &batch);
        if (nbd_lane_wait(l->lane[lane], &batch, err) < 0)
            return -1;
        offset += part;
        length -= part;
    }
    return 0;
}
