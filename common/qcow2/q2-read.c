/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-reader.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Most compressed bytes that are read ahead of what is asked for. */
#define AHEAD ((size_t)512 << 10)

/* A range of the disk, compressed in one file of the chain. */
struct part {
    struct q2_reader *r;
    unsigned file;
    uint8_t *to;
    uint64_t offset;
    size_t length;
    struct q2_error *err;
};

static size_t smaller(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

/* Make room in a buffer whose content is of no use any more. */
static int make_room(uint8_t **buffer, size_t *room, size_t length, struct q2_error *err)
{
    if (length <= *room)
        return 0;
    free(*buffer);
    *buffer = malloc(length);
    *room = *buffer ? length : 0;
    return *buffer ? 0 : q2_fail_errno(err, ENOMEM, "Cannot read an image");
}

/* Have `length` bytes at `host` of the file in the window; a request that goes on has the next ones
 * read, too. */
static const uint8_t *fetch(const struct part *p, uint64_t host, size_t length)
{
    struct q2_reader *r = p->r;
    const struct q2_file *f = &r->maps[p->file].image->file;
    size_t want = smaller(AHEAD, p->length);

    if (r->window_length && r->window_file == p->file && host >= r->window_start &&
        host - r->window_start <= r->window_length &&
        length <= r->window_length - (host - r->window_start))
        return r->window + (host - r->window_start);
    want = smaller(want > length ? want : length, f->size - host);
    r->window_length = 0;
    if (make_room(&r->window, &r->window_room, want, p->err) < 0 ||
        q2_file_pread(f, r->window, want, host, p->err) < 0)
        return NULL;
    r->window_file = p->file;
    r->window_start = host;
    r->window_length = want;
    return r->window;
}

/* Decompress the cluster that begins at `start` of the disk. */
static int decompress(const struct part *p, uint64_t start, uint8_t *to, size_t cluster)
{
    struct q2_map *m = &p->r->maps[p->file];
    struct q2_error why;
    struct q2_entry e;
    const uint8_t *from;
    size_t length;

    if (q2_map_entry(m, start, &e, p->err) < 0)
        return -1;
    /* The last sector of a file may be there in part. */
    length = smaller(e.length, m->image->file.size - e.host);
    from = fetch(p, e.host, length);
    if (!from)
        return -1;
    if (q2_decompress(p->r->codec, m->image->header.compression, from, length, to, cluster, &why) ==
        0)
        return 0;
    return q2_fail_errno(
        p->err, EIO, "Cannot read at %llu of the disk in '%s' (at %llu of the file): %s",
        (unsigned long long)start, m->image->file.path, (unsigned long long)e.host, why.text);
}

/* The same into the reader's own buffer, unless it is there. */
static int keep_cluster(const struct part *p, uint64_t start, size_t cluster)
{
    struct q2_reader *r = p->r;

    if (r->cluster_length && r->cluster_file == p->file && r->cluster_start == start)
        return 0;
    r->cluster_length = 0;
    if (make_room(&r->cluster, &r->cluster_room, cluster, p->err) < 0 ||
        decompress(p, start, r->cluster, cluster) < 0)
        return -1;
    r->cluster_file = p->file;
    r->cluster_start = start;
    r->cluster_length = cluster;
    return 0;
}

static int read_compressed(struct part *p)
{
    const struct q2_image *image = p->r->maps[p->file].image;
    size_t cluster = (size_t)1 << image->geometry.cluster_bits;

    while (p->length > 0) {
        size_t within = p->offset & (cluster - 1), n = smaller(cluster - within, p->length);

        if (n == cluster) {
            if (decompress(p, p->offset, p->to, cluster) < 0)
                return -1;
        } else {
            if (keep_cluster(p, p->offset - within, cluster) < 0)
                return -1;
            memcpy(p->to, p->r->cluster + within, n);
        }
        p->to += n;
        p->offset += n;
        p->length -= n;
    }
    return 0;
}

static int read_extent(struct q2_reader *r, const struct q2_extent *e, uint8_t *to, uint64_t offset,
                       struct q2_error *err)
{
    struct part p = {r, e->depth, to, offset, (size_t)e->length, err};

    switch (e->kind) {
    case Q2_DATA:
        return q2_file_pread(q2_image_data(r->maps[e->depth].image), to, (size_t)e->length, e->host,
                             err);
    case Q2_COMPRESSED:
        return read_compressed(&p);
    default:
        memset(to, 0, (size_t)e->length);
        return 0;
    }
}

int q2_image_pread(struct q2_reader *r, void *buffer, size_t length, uint64_t offset,
                   struct q2_error *err)
{
    const struct q2_image *image = r->maps[0].image;
    uint8_t *to = buffer;
    struct q2_extent e;

    if (offset > image->size || length > image->size - offset)
        return q2_fail(err, "There are no %zu bytes at %llu of '%s', a disk of %llu bytes", length,
                       (unsigned long long)offset, image->file.path,
                       (unsigned long long)image->size);
    while (length > 0) {
        if (q2_image_extent(r, offset, length, UINT_MAX, &e, err) < 0 ||
            read_extent(r, &e, to, offset, err) < 0)
            return -1;
        to += e.length;
        offset += e.length;
        length -= (size_t)e.length;
    }
    return 0;
}
