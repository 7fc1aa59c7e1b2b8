/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clusters on their way into the file. A lane gathers what a call brings, compresses, gives all of it
 * a place in one step, and writes each range of the file that has come out by one pwritev.
 */
#include "common/qcow2/q2-entry-build.h"
#include "common/qcow2/q2-stream-private.h"

#include <string.h>

static bool is_zero(const uint8_t *p, size_t length)
{
    return p[0] == 0 && memcmp(p, p + 1, length - 1) == 0;
}

/* ---- one range of the file after the other ---- */

static int flush(struct q2_stream *s, struct q2_lane *l, struct q2_error *err)
{
    size_t n = l->n_iov;

    l->n_iov = 0;
    return n == 0 ? 0 : q2_stream_put(s, l->at, l->iov, n, err);
}

/* Join a cluster to the range that is gathered, or begin another one. */
static int emit(struct q2_stream *s, struct q2_lane *l, const struct q2_cluster *c,
                struct q2_error *err)
{
    struct iovec *last = l->n_iov > 0 ? &l->iov[l->n_iov - 1] : NULL;

    if (last && (l->end != c->host || l->n_iov == LANE_PIECES)) {
        if (flush(s, l, err) < 0)
            return -1;
        last = NULL;
    }
    if (!last)
        l->at = c->host;
    if (last && (uint8_t *)last->iov_base + last->iov_len == c->data)
        last->iov_len += c->length;
    else
        l->iov[l->n_iov++] = (struct iovec){(void *)c->data, c->length};
    l->end = c->host + c->length;
    return 0;
}

/* Those of a kind, from `i` up to `n`. */
static int emit_kind(struct q2_stream *s, struct q2_lane *l, enum q2_kind kind, size_t i, size_t n,
                     struct q2_error *err)
{
    for (; i < n; i++)
        if (l->clusters[i].kind == kind && emit(s, l, &l->clusters[i], err) < 0)
            return -1;
    return 0;
}

/* ---- places and entries ---- */

static uint64_t entry_of(const struct q2_cluster *c)
{
    if (c->kind == Q2_ZERO)
        return Q2_ENTRY_ZERO;
    if (c->kind == Q2_DATA)
        return q2_entry_counted_once(c->host);
    return q2_entry_compressed(c->host, c->length, CLUSTER_BITS);
}

static int place(struct q2_stream *s, struct q2_lane *l, size_t *behind, struct q2_gap *gap,
                 struct q2_error *err)
{
    int result;

    pthread_mutex_lock(&s->lock);
    result = q2_space_place(&s->space, l->clusters, l->n, behind, gap, err);
    for (size_t i = 0; i < l->n && result == 0; i++)
        if (l->clusters[i].kind != Q2_ZERO || s->o.backing)
            result = q2_stream_set(s, l->clusters[i].offset, entry_of(&l->clusters[i]), err);
    pthread_mutex_unlock(&s->lock);
    return result;
}

/* Place and write what the lane has gathered. */
static int write_gathered(struct q2_stream *s, struct q2_lane *l, struct q2_error *err)
{
    struct q2_gap gap;
    size_t behind, n = l->n;

    if (place(s, l, &behind, &gap, err) < 0)
        return -1;
    l->n = 0;
    l->packed_end = 0;
    if (q2_stream_leave(s, &gap, err) < 0)
        return -1;
    /* In the order of their places. */
    if (emit_kind(s, l, Q2_COMPRESSED, 0, behind, err) < 0 ||
        emit_kind(s, l, Q2_DATA, 0, n, err) < 0 ||
        emit_kind(s, l, Q2_COMPRESSED, behind, n, err) < 0)
        return -1;
    return flush(s, l, err);
}

/* ---- gathering ---- */

static int gather_cluster(struct q2_stream *s, struct q2_lane *l, uint64_t offset,
                          const uint8_t *data, size_t length, struct q2_error *err)
{
    struct q2_cluster *c = &l->clusters[l->n++];

    /* There is one such cluster in a disk: `last` is still all zeroes. */
    if (length < CLUSTER) {
        memcpy(l->last, data, length);
        data = l->last;
    }
    *c = (struct q2_cluster){offset, data, CLUSTER, Q2_DATA, 0};
    if (s->o.detect_zeroes && is_zero(data, CLUSTER))
        c->kind = Q2_ZERO;
    else if (s->o.compress && q2_lane_compress(l, c, err) < 0)
        return -1;
    return l->n == (s->o.compress ? LANE_PACKED : LANE_CLUSTERS) ? write_gathered(s, l, err) : 0;
}

/* A range as q2-stream.h demands. */
static int check_range(const struct q2_stream *s, uint64_t offset, uint64_t length,
                       struct q2_error *err)
{
    uint64_t end = offset + length;

    if (offset % CLUSTER != 0 || end < offset || end > s->o.size ||
        (end % CLUSTER != 0 && end != s->o.size))
        return q2_fail(err, "%llu bytes at %llu are not clusters of a disk of %llu bytes",
                       (unsigned long long)length, (unsigned long long)offset,
                       (unsigned long long)s->o.size);
    return 0;
}

static int gather(struct q2_stream *s, struct q2_lane *l, const struct q2_piece *piece,
                  struct q2_error *err)
{
    const uint8_t *data = piece->data;

    if (check_range(s, piece->offset, piece->length, err) < 0)
        return -1;
    for (size_t done = 0; done < piece->length; done += CLUSTER) {
        size_t left = piece->length - done;

        if (gather_cluster(s, l, piece->offset + done, data + done, left < CLUSTER ? left : CLUSTER,
                           err) < 0)
            return -1;
    }
    return 0;
}

static int write_pieces(struct q2_stream *s, struct q2_lane *l, const struct q2_piece *pieces,
                        size_t n, struct q2_error *err)
{
    if (q2_stream_usable(s, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (gather(s, l, &pieces[i], err) < 0)
            return -1;
    return l->n > 0 ? write_gathered(s, l, err) : 0;
}

int q2_stream_write(struct q2_stream *s, unsigned lane, const struct q2_piece *pieces, size_t n,
                    struct q2_error *err)
{
    struct q2_error why;

    return q2_stream_outcome(s, write_pieces(s, &s->lanes[lane], pieces, n, &why), &why, err);
}

int q2_stream_zero(struct q2_stream *s, unsigned lane, uint64_t offset, uint64_t length,
                   struct q2_error *err)
{
    struct q2_error why;
    int result = check_range(s, offset, length, &why);

    (void)lane; /* its thread needs nothing of its own for this */
    if (result == 0 && s->o.backing)
        result = q2_stream_set_zero(s, offset, length, &why);
    return q2_stream_outcome(s, result, &why, err);
}
