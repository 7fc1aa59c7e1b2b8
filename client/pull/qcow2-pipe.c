/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Behind the head the stream has all data clusters, one after the other. So each range of data has a
 * place in the stream, and a raw stream (target_pipe_new) of so many bytes does the rest: what comes
 * as zero, or does not come, it fills up with zeroes.
 */
#include "client/pull/qcow2-pipe.h"
#include "client/base/error.h"
#include "common/copy/targets.h"
#include "common/qcow2/q2-stream.h"

#include <inttypes.h>
#include <string.h>

#define CLUSTER ((uint64_t)Q2_STREAM_CLUSTER)
/* Bytes of the disk whose map is asked for at a time. */
#define WINDOW (UINT64_C(1) << 34)
/* All ranges are in memory before the first byte can be written: about 60 bytes for each. */
#define MOST_RANGES (1u << 21)

/* A range of the map: data, and where it is in the stream, or zeroes. */
struct range {
    uint64_t offset, length, place;
    bool zero;
};

struct qcow2_pipe {
    struct copy_target target;
    struct copy_target *stream;
    GArray *ranges;   /* struct range, ascending */
    guint next;       /* the range in which, or before which, the next piece is */
    uint64_t missing; /* bytes of ranges that have not come */
    bool backing;     /* what the map does not have is that of a backing file; else zeroes */
    char *name;
};

static struct qcow2_pipe *pipe_of(struct copy_target *t)
{
    return (struct qcow2_pipe *)(void *)t;
}

/* ---- the map ---- */

struct map_reader {
    const char *name; /* of the stream */
    uint64_t size;
    GArray *known; /* struct q2_extent_known: whole clusters */
};

static uint64_t cluster_end(const struct map_reader *m, uint64_t offset)
{
    return MIN((offset + CLUSTER - 1) / CLUSTER * CLUSTER, m->size);
}

static int check_room(const struct map_reader *m, GError **err)
{
    /* An extent adds at most three. */
    if (m->known->len <= MOST_RANGES - 3)
        return 0;
    return client_fail(
        err, CLIENT_ERROR_FAILED,
        "%s: the disk has too many ranges for a stream, whose map comes first: copy it "
        "into a file, or as --format raw",
        m->name);
}

/* Add whole clusters, but for what is there already: the first may be the last of the extent
 * before. */
static void add_clusters(struct map_reader *m, uint64_t from, uint64_t to, bool zero)
{
    struct q2_extent_known *last =
        m->known->len > 0 ? &g_array_index(m->known, struct q2_extent_known, m->known->len - 1)
                          : NULL;

    if (last && from < last->offset + last->length)
        from = last->offset + last->length;
    if (from >= to)
        return;
    if (last && last->zero == zero && last->offset + last->length == from) {
        last->length = to - last->offset;
    } else {
        struct q2_extent_known e = {.offset = from, .length = to - from, .zero = zero};

        g_array_append_val(m->known, e);
    }
}

static int take_extent(void *opaque, const struct copy_extent *e, GError **err)
{
    struct map_reader *m = opaque;
    uint64_t from = e->offset / CLUSTER * CLUSTER;
    uint64_t to = cluster_end(m, e->offset + e->length);
    uint64_t zero_from = cluster_end(m, e->offset);
    uint64_t zero_to =
        e->offset + e->length == m->size ? m->size : (e->offset + e->length) / CLUSTER * CLUSTER;

    if (check_room(m, err) < 0)
        return -1;
    if (!e->zero) {
        add_clusters(m, from, to, false);
        return 0;
    }
    /* The edges of what is zero are read as data. */
    if (zero_from > e->offset)
        add_clusters(m, from, MIN(zero_from, to), false);
    if (zero_from < zero_to)
        add_clusters(m, zero_from, zero_to, true);
    if (zero_to < to)
        add_clusters(m, zero_to, to, false);
    return 0;
}

static GArray *read_map(const struct qcow2_pipe_options *o, GError **err)
{
    struct map_reader m = {.name = o->name,
                           .size = o->size,
                           .known = g_array_new(FALSE, FALSE, sizeof(struct q2_extent_known))};

    for (uint64_t at = 0, end; at < o->size; at = end) {
        uint64_t length = MIN(WINDOW, o->size - at);

        if (o->source->ops->extents(o->source, 0, at, length, take_extent, &m, &end, err) < 0) {
            g_array_unref(m.known);
            return NULL;
        }
    }
    return m.known;
}

/* The ranges, and the places of data; *total is the length of all data in the stream. */
static GArray *make_ranges(const GArray *known, uint64_t *total)
{
    GArray *ranges = g_array_new(FALSE, FALSE, sizeof(struct range));

    *total = 0;
    for (guint i = 0; i < known->len; i++) {
        const struct q2_extent_known *e = &g_array_index(known, struct q2_extent_known, i);
        struct range r = {
            .offset = e->offset, .length = e->length, .place = *total, .zero = e->zero};

        g_array_append_val(ranges, r);
        if (!e->zero)
            *total += (e->length + CLUSTER - 1) / CLUSTER * CLUSTER;
    }
    return ranges;
}

/* ---- data ---- */

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* The range that has `offset`; NULL: the map does not have it. *length is cut to where this is so. */
static const struct range *find_range(struct qcow2_pipe *p, uint64_t offset, uint64_t *length)
{
    for (; p->next < p->ranges->len; p->next++) {
        const struct range *r = &g_array_index(p->ranges, struct range, p->next);
        uint64_t end = r->offset + r->length;

        if (offset >= end)
            continue;
        *length = MIN(*length, (offset < r->offset ? r->offset : end) - offset);
        return offset < r->offset ? NULL : r;
    }
    return NULL;
}

static int fail_changed(const struct qcow2_pipe *p, uint64_t offset, GError **err)
{
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: what is at %" PRIu64 " is not what the map said before: the disk "
                       "changes meanwhile; a view does not",
                       p->name, offset);
}

/* What comes, data or (NULL) zeroes, for a part of the disk that is in one range, or in none. */
static int take(struct qcow2_pipe *p, unsigned lane, const struct range *r, uint8_t *data,
                uint64_t offset, uint64_t length, GError **err)
{
    struct copy_piece piece = {.length = (size_t)length, .data = data};

    if (!r && p->backing)
        return fail_changed(p, offset, err);
    p->missing -= r ? length : 0;
    if (!data)
        return 0; /* the stream fills up what does not come */
    if (!r || r->zero)
        return is_zero(data, (size_t)length) ? 0 : fail_changed(p, offset, err);
    piece.offset = r->place + (offset - r->offset);
    return p->stream->ops->write(p->stream, lane, &piece, 1, err);
}

static int take_all(struct qcow2_pipe *p, unsigned lane, uint8_t *data, uint64_t offset,
                    uint64_t length, GError **err)
{
    for (uint64_t done = 0, n; done < length; done += n) {
        const struct range *r;

        n = length - done;
        r = find_range(p, offset + done, &n);
        if (take(p, lane, r, data ? data + done : NULL, offset + done, n, err) < 0)
            return -1;
    }
    return 0;
}

static int pipe_write(struct copy_target *t, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err)
{
    for (size_t i = 0; i < n; i++) {
        if (take_all(pipe_of(t), lane, pieces[i].data, pieces[i].offset, pieces[i].length, err) < 0)
            return -1;
    }
    return 0;
}

static int pipe_zero(struct copy_target *t, unsigned lane, uint64_t offset, uint64_t length,
                     GError **err)
{
    return take_all(pipe_of(t), lane, NULL, offset, length, err);
}

static int pipe_finish(struct copy_target *t, GError **err)
{
    struct qcow2_pipe *p = pipe_of(t);

    if (p->missing > 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: %" PRIu64
                           " bytes of the map did not come: the disk, or its bitmap, "
                           "changes meanwhile",
                           p->name, p->missing);
    return p->stream->ops->finish(p->stream, err);
}

static void pipe_cancel(struct copy_target *t)
{
    struct qcow2_pipe *p = pipe_of(t);

    if (p->stream->ops->cancel)
        p->stream->ops->cancel(p->stream);
}

static void pipe_free(struct copy_target *t)
{
    struct qcow2_pipe *p = pipe_of(t);

    copy_target_free(p->stream);
    g_array_unref(p->ranges);
    g_free(p->name);
    g_free(p);
}

static const struct copy_target_ops pipe_ops = {
    .write = pipe_write,
    .zero = pipe_zero,
    .finish = pipe_finish,
    .cancel = pipe_cancel,
    .free = pipe_free,
};

/* Read the map, and write what comes before the data: the map; NULL and *err. */
static GArray *write_head(const struct qcow2_pipe_options *o, GError **err)
{
    const struct q2_stream_options stream = {
        .size = o->size,
        .backing = o->backing,
        .backing_format = o->backing_format,
        .lanes = 1,
    };
    g_autoptr(GArray) known = NULL;
    struct q2_error why;

    if (q2_stream_head_check(&stream, &why) == 0) {
        known = read_map(o, err);
        if (!known)
            return NULL;
        if (q2_stream_head(o->fd, &stream, (const struct q2_extent_known *)(void *)known->data,
                           known->len, &why) == 0)
            return g_steal_pointer(&known);
    }
    client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", o->name, why.text);
    return NULL;
}

struct copy_target *qcow2_pipe_new(const struct qcow2_pipe_options *o, GError **err)
{
    g_autoptr(GArray) known = write_head(o, err);
    struct copy_target *stream;
    struct qcow2_pipe *p;
    uint64_t total, all = 0;
    GArray *ranges;

    if (!known)
        return NULL;
    ranges = make_ranges(known, &total);
    for (guint i = 0; i < ranges->len; i++)
        all += g_array_index(ranges, struct range, i).length;
    stream = target_pipe_new(o->fd, o->name, total, err);
    if (!stream) {
        g_array_unref(ranges);
        return NULL;
    }
    p = g_new(struct qcow2_pipe, 1);
    *p = (struct qcow2_pipe){
        .target = {.ops = &pipe_ops, .size = o->size, .align = Q2_STREAM_CLUSTER, .ordered = true},
        .stream = stream,
        .ranges = ranges,
        .missing = all,
        .backing = o->backing != NULL,
        .name = g_strdup(o->name),
    };
    return &p->target;
}
