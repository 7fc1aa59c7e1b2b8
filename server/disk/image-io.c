/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/image-io.h"

#include "common/util/log-limit.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/uio.h>

/* ---- data ---- */

static int failed(const struct disk *d, struct log_limit *limit, const char *what, uint32_t length,
                  uint64_t offset, int error)
{
    log_error_limited(limit, "disk %s: %s of %u bytes at %" PRIu64 ": %s", d->node.name, what,
                      length, offset, g_strerror(-error));
    return error;
}

int image_read_failed(struct disk *d, uint32_t length, uint64_t offset, int error)
{
    return failed(d, &d->read_errors, "read", length, offset, error);
}

int image_write_failed(struct disk *d, uint32_t length, uint64_t offset, int error)
{
    return failed(d, &d->write_errors, "write", length, offset, error);
}

/* For less than that it costs more to ask whether it is there than to copy it. */
#define MEMORY_ASKED (64u << 10)

/* tmpfs does not know RWF_NOWAIT. What it has in the page cache does not block, as it may with a
 * network's file system. */
static int read_memory(int fd, void *buf, uint32_t length, uint64_t offset)
{
    struct statfs fs;

    if (length < MEMORY_ASKED || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC ||
        file_is_cached(fd, offset, length) <= 0)
        return -EAGAIN;
    return pread_all(fd, buf, length, offset) < 0 ? -EAGAIN : 0;
}

static int read_file_now(int fd, void *buf, uint32_t length, uint64_t offset)
{
    struct iovec iov = {.iov_base = buf, .iov_len = length};
    ssize_t n = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);

    if (n == (ssize_t)length)
        return 0;
    if (n >= 0 || errno == EAGAIN)
        return NODE_WOULD_BLOCK;
    /* The file system does not know the flag, or has something to say to a read. */
    return errno == EOPNOTSUPP ? read_memory(fd, buf, length, offset) : -EAGAIN;
}

/* ---- piece by piece ---- */

/* The first piece of a range. */
static struct backend_segment piece_at(struct backend_handle *h, uint32_t length, uint64_t offset,
                                       bool writing)
{
    struct backend_segment s;

    h->map(h, offset, length, writing, &s);
    return s;
}

/* A transfer that fails in the file is left to the operation: it knows what to say, and perhaps what
 * to do (a file may end before the bytes that it stands for). */
static int read_piece(struct backend_handle *h, const struct backend_segment *s, void *buf,
                      uint64_t offset)
{
    if (s->place == BACKEND_ZEROES) {
        memset(buf, 0, s->length);
        return 0;
    }
    if (s->place == BACKEND_IN_FILE && pread_all(s->fd, buf, s->length, s->host) == 0)
        return 0;
    return h->backend->ops->pread(h, buf, (uint32_t)s->length, offset);
}

int image_read_mapped(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    char *p = buf;

    for (uint32_t done = 0; done < length;) {
        struct backend_segment s = piece_at(h, length - done, offset + done, false);
        int error = read_piece(h, &s, p + done, offset + done);

        if (error < 0)
            return error;
        done += (uint32_t)s.length;
    }
    return 0;
}

int image_write_mapped(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset)
{
    const char *p = buf;

    for (uint32_t done = 0; done < length;) {
        struct backend_segment s = piece_at(h, length - done, offset + done, true);
        int error = 0;

        if (s.place != BACKEND_IN_FILE || pwrite_all(s.fd, p + done, s.length, s.host) < 0)
            error = h->backend->ops->pwrite(h, p + done, (uint32_t)s.length, offset + done, 0);
        if (error < 0)
            return error;
        done += (uint32_t)s.length;
    }
    return 0;
}

static int read_mapped_now(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    char *p = buf;

    for (uint32_t done = 0; done < length;) {
        struct backend_segment s = piece_at(h, length - done, offset + done, false);
        int error = -EAGAIN;

        if (s.place == BACKEND_IN_FILE)
            error = read_file_now(s.fd, p + done, (uint32_t)s.length, s.host);
        else if (s.place == BACKEND_ZEROES)
            error = read_piece(h, &s, p + done, offset + done);
        if (error != 0)
            return error;
        done += (uint32_t)s.length;
    }
    return 0;
}

int image_read_now(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    if (h->fd >= 0)
        return read_file_now(h->fd, buf, length, offset);
    return h->map ? read_mapped_now(h, buf, length, offset) : -EAGAIN;
}

int image_file_of(struct backend_handle *h, uint32_t length, uint64_t offset, uint64_t *host)
{
    *host = offset;
    if (h->fd >= 0 || !h->map)
        return h->fd;
    struct backend_segment s = piece_at(h, length, offset, false);
    if (s.place != BACKEND_IN_FILE || s.length < length)
        return -1;
    *host = s.host;
    return s.fd;
}

/* ---- zeroes ---- */

int image_zero(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    return h->backend->ops->zero(h, length, offset, flags);
}

int image_trim(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    return h->backend->ops->trim(h, length, offset, flags);
}

/* ---- holes ---- */

/* Holes are asked for in at most so many bytes at first: some backends tell all that lies in the
 * range, of which only the first extent is wanted. If that is a hole to its end, all of the range
 * is asked for. */
#define HOLE_ASKED (1ull << 30)

/* How much of [offset, offset + length) is a hole from its beginning on. */
static uint64_t hole_of(struct backend_handle *h, uint64_t offset, uint64_t length)
{
    struct extents e = EXTENTS_INIT;
    uint64_t n = 0;

    if (h->backend->ops->extents(h, length, offset, BACKEND_REQ_ONE, &e) == 0 && e.count > 0 &&
        (e.list[0].flags & (EXTENT_HOLE | EXTENT_ZERO)) == (EXTENT_HOLE | EXTENT_ZERO))
        n = MIN(e.list[0].length, length);
    extents_free(&e);
    return n;
}

uint64_t image_hole_at(struct backend_handle *h, uint64_t offset, uint64_t length)
{
    if (!h->can_extents)
        return 0;
    uint64_t n = hole_of(h, offset, MIN(length, HOLE_ASKED));
    if (n == HOLE_ASKED && n < length)
        n = MAX(n, hole_of(h, offset, length));
    if (n == length)
        return n;
    uint64_t end = (offset + n) / IMAGE_PIECE * IMAGE_PIECE;
    return end > offset ? end - offset : 0;
}
