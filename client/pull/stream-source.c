/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What comes before the data is written into a temporary file, at the places that it has in the
 * stream. That file is opened as an image of which the rest is missing, and says for each range where
 * in the stream its data are. The lane asks for ranges in ascending order, and so the stream is only
 * ever read on.
 */
#include "client/pull/stream-source.h"
#include "client/base/error.h"
#include "common/base/cursor.h"
#include "common/copy/source-image.h"
#include "common/qcow2/q2-image.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Bytes that hold the header: a cluster of those that are streamed. */
#define HEADER_BYTES 65536u
/* What comes before the data of a disk is not longer than this, and a part of its size. */
#define HEAD_LEAST (UINT64_C(64) << 20)
#define HEAD_PART  1024

/* Batches that a lane may have under way. */
#define BATCHES 2

struct stream_source {
    struct copy_source base;
    int fd; /* lent */
    char *name;
    uint64_t position; /* bytes of the stream that have been read */
    uint64_t cluster;  /* bytes */
    int cancelled;     /* an eventfd */
    int head;          /* the temporary file */
    uint64_t most;     /* bytes that the image has at most */
    struct q2_image *image;
    struct copy_source *map; /* what tells the extents */
    struct q2_reader *reader;
    struct {
        const struct copy_piece *pieces;
        size_t n;
    } batches[BATCHES]; /* the oldest first */
    unsigned n_batches;
    uint8_t buffer[HEADER_BYTES];
};

static struct stream_source *self_of(struct copy_source *s)
{
    return (struct stream_source *)s;
}

/* ---- the stream ---- */

static int wait_for_bytes(const struct stream_source *s, GError **err)
{
    struct pollfd fds[] = {{.fd = s->fd, .events = POLLIN}, {.fd = s->cancelled, .events = POLLIN}};

    while (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
        if (errno != EINTR)
            return client_fail(err, CLIENT_ERROR_FAILED, "poll: %s", g_strerror(errno));
    }
    if (fds[1].revents != 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: the copy is cancelled", s->name);
    return 0;
}

/* The next bytes of the stream. */
static int read_on(struct stream_source *s, uint8_t *bytes, size_t length, GError **err)
{
    while (length > 0) {
        ssize_t n;

        if (wait_for_bytes(s, err) < 0)
            return -1;
        n = read(s->fd, bytes, length);
        if (n == 0)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "%s: it ends after %" PRIu64 " bytes, in the middle of the image",
                               s->name, s->position);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", s->name, g_strerror(errno));
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
            s->position += (uint64_t)n;
        }
    }
    return 0;
}

static int skip_to(struct stream_source *s, uint64_t position, GError **err)
{
    if (position < s->position)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: its data are not in the order of the disk: it has to be a file",
                           s->name);
    while (s->position < position) {
        if (read_on(s, s->buffer, (size_t)MIN(position - s->position, sizeof s->buffer), err) < 0)
            return -1;
    }
    return 0;
}

/* ---- what comes before the data ---- */

/* Read on to `end`, and keep what comes in the file. */
static int keep_to(struct stream_source *s, uint64_t end, GError **err)
{
    while (s->position < end) {
        size_t length = (size_t)MIN(end - s->position, sizeof s->buffer);
        uint64_t at = s->position;

        if (read_on(s, s->buffer, length, err) < 0)
            return -1;
        if (pwrite(s->head, s->buffer, length, (off_t)at) != (ssize_t)length)
            return client_fail(err, CLIENT_ERROR_FAILED, "a temporary file: %s", g_strerror(errno));
    }
    return 0;
}

/* Where the last table ends, by the L1 table, which has been kept. */
static int find_end(const struct stream_source *s, const struct q2_header *h, uint64_t *end,
                    GError **err)
{
    uint64_t most = HEAD_LEAST + h->size / HEAD_PART, cluster = UINT64_C(1) << h->cluster_bits;
    uint64_t last = h->refcount_table_offset + h->refcount_table_clusters * cluster;

    for (uint32_t i = 0; i < h->l1_size; i++) {
        uint8_t entry[8];
        uint64_t table;

        if (pread(s->head, entry, sizeof entry, (off_t)(h->l1_offset + i * sizeof entry)) != 8)
            return client_fail(err, CLIENT_ERROR_FAILED, "a temporary file: %s", g_strerror(errno));
        table = load_be64(entry) & Q2_ENTRY_OFFSET;
        if (table > 0)
            last = MAX(last, table + cluster);
    }
    if (last > most)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: its tables are behind its data: it has to be a file", s->name);
    *end = MAX(*end, last);
    return 0;
}

static int check_header(const struct stream_source *s, struct q2_header *h, GError **err)
{
    struct q2_error why = {0};

    if (q2_header_parse(s->buffer, sizeof s->buffer, INT64_MAX, h, &why) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", s->name, why.text);
    if (*h->backing)
        return client_fail(
            err, CLIENT_ERROR_FAILED,
            "%s: it stands on another image, \"%s\": it has to be a file beside that", s->name,
            h->backing);
    return 0;
}

/* Keep all that comes before the data. */
static int read_head(struct stream_source *s, GError **err)
{
    struct q2_header h;
    uint64_t end;

    if (keep_to(s, HEADER_BYTES, err) < 0 || check_header(s, &h, err) < 0)
        return -1;
    end = h.l1_offset + h.l1_size * UINT64_C(8);
    if (end > HEAD_LEAST + h.size / HEAD_PART)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: its tables are behind its data: it has to be a file", s->name);
    if (keep_to(s, end, err) < 0 || find_end(s, &h, &end, err) < 0 || keep_to(s, end, err) < 0)
        return -1;
    s->most = end + h.size + h.size / HEAD_PART + HEAD_LEAST;
    return 0;
}

static int open_head(struct stream_source *s, GError **err)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", s->head);
    struct q2_error why = {0};

    s->image = q2_image_open_head(path, s->most, &why);
    s->reader = s->image ? q2_reader_new(s->image, &why) : NULL;
    if (!s->reader)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", s->name, why.text);
    s->cluster = UINT64_C(1) << q2_image_header(s->image)->cluster_bits;
    s->map = source_image_new(s->image, UINT_MAX, 1, err);
    return s->map ? 0 : -1;
}

/* ---- the source ---- */

static int extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                   copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct copy_source *map = self_of(s)->map;

    return map->ops->extents(map, lane, offset, length, sink, opaque, end, err);
}

static int read_start(struct copy_source *base, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err)
{
    struct stream_source *s = self_of(base);

    (void)lane;
    if (s->n_batches == BATCHES)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: too many reads at once", s->name);
    s->batches[s->n_batches].pieces = pieces;
    s->batches[s->n_batches++].n = n;
    return 0;
}

static int read_extent(struct stream_source *s, const struct q2_extent *e, uint8_t *bytes,
                       GError **err)
{
    switch (e->kind) {
    case Q2_DATA:
        return skip_to(s, e->host, err) < 0 ? -1 : read_on(s, bytes, (size_t)e->length, err);
    case Q2_ZERO:
    case Q2_UNALLOCATED:
        memset(bytes, 0, (size_t)e->length);
        return 0;
    case Q2_COMPRESSED:
    case Q2_INVALID:
        break;
    }
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: it is compressed: it has to be a file",
                       s->name);
}

static int read_piece(struct stream_source *s, const struct copy_piece *p, GError **err)
{
    struct q2_extent e = {0};

    for (uint64_t done = 0; done < p->length; done += e.length) {
        struct q2_error why;

        if (q2_image_extent(s->reader, p->offset + done, p->length - done, UINT_MAX, &e, &why) < 0)
            return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", s->name, why.text);
        if (read_extent(s, &e, p->data + done, err) < 0)
            return -1;
    }
    /* What fills up the last cluster is taken, too: who sends it has to get rid of it. */
    if (p->offset + p->length == s->base.size && e.kind == Q2_DATA)
        return skip_to(s, (s->position + s->cluster - 1) / s->cluster * s->cluster, err);
    return 0;
}

static int read_wait(struct copy_source *base, unsigned lane, GError **err)
{
    struct stream_source *s = self_of(base);
    const struct copy_piece *pieces = s->batches[0].pieces;
    size_t n = s->batches[0].n;

    (void)lane;
    if (s->n_batches == 0)
        return 0;
    s->batches[0] = s->batches[1];
    s->n_batches--;
    for (size_t i = 0; i < n; i++) {
        if (read_piece(s, &pieces[i], err) < 0)
            return -1;
    }
    return 0;
}

static void cancel(struct copy_source *base)
{
    eventfd_write(self_of(base)->cancelled, 1);
}

static void stream_source_free(struct copy_source *base)
{
    struct stream_source *s = self_of(base);

    copy_source_free(s->map);
    q2_reader_free(s->reader);
    q2_image_close(s->image);
    if (s->head >= 0)
        close(s->head);
    if (s->cancelled >= 0)
        close(s->cancelled);
    g_free(s->name);
    g_free(s);
}

/* A file without a name. */
static int make_temporary(GError **err)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("fleecectl-XXXXXX", &path, err);

    if (fd >= 0)
        unlink(path);
    return fd;
}

static int open_stream(struct stream_source *s, GError **err)
{
    s->cancelled = eventfd(0, EFD_CLOEXEC);
    if (s->cancelled < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "eventfd: %s", g_strerror(errno));
    s->head = make_temporary(err);
    if (s->head < 0 || read_head(s, err) < 0 || open_head(s, err) < 0)
        return -1;
    s->base.size = s->map->size;
    s->base.max_read = s->map->max_read;
    return 0;
}

struct copy_source *stream_source_new(int fd, const char *name, GError **err)
{
    static const struct copy_source_ops ops = {
        .extents = extents,
        .read_start = read_start,
        .read_wait = read_wait,
        .cancel = cancel,
        .free = stream_source_free,
    };
    struct stream_source *s = g_new0(struct stream_source, 1);

    s->base = (struct copy_source){.ops = &ops, .lanes = 1, .align = 1};
    s->fd = fd;
    s->name = g_strdup(name);
    s->head = s->cancelled = -1;
    if (open_stream(s, err) == 0)
        return &s->base;
    stream_source_free(&s->base);
    return NULL;
}
