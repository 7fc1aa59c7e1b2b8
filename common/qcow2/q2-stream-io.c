/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/file-io.h"
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <unistd.h>

/* All of it, after pwritev(2) has written `done` bytes. */
static int write_rest(int fd, uint64_t offset, const struct iovec *iov, size_t n, size_t done)
{
    for (size_t i = 0; i < n; i++) {
        size_t skip = done < iov[i].iov_len ? done : iov[i].iov_len;
        int error = pwrite_all(fd, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip,
                               offset + skip);

        if (error < 0)
            return error;
        done -= skip;
        offset += iov[i].iov_len;
    }
    return 0;
}

static int write_all(int fd, uint64_t offset, const struct iovec *iov, size_t n, size_t length)
{
    ssize_t done;

    do
        done = pwritev(fd, iov, (int)n, (off_t)offset);
    while (done < 0 && errno == EINTR);
    if (done < 0)
        return -errno;
    return (size_t)done == length ? 0 : write_rest(fd, offset, iov, n, (size_t)done);
}

int q2_stream_put(struct q2_stream *s, uint64_t offset, const struct iovec *iov, size_t n,
                  struct q2_error *err)
{
    size_t length = 0;
    int error;

    for (size_t i = 0; i < n; i++)
        length += iov[i].iov_len;
    pthread_mutex_lock(&s->writing);
    error = write_all(s->fd, offset, iov, n, length);
    pthread_mutex_unlock(&s->writing);
    if (error < 0)
        return q2_fail_errno(err, -error, "cannot write %zu bytes at %llu", length,
                             (unsigned long long)offset);
    return s->o.wrote ? s->o.wrote(s->o.opaque, offset, iov, n, err) : 0;
}

int q2_stream_leave(struct q2_stream *s, const struct q2_gap *gap, struct q2_error *err)
{
    struct iovec iov = {.iov_base = NULL, .iov_len = gap->length};

    if (gap->length == 0 || !s->o.wrote)
        return 0;
    return s->o.wrote(s->o.opaque, gap->offset, &iov, 1, err);
}

int q2_stream_sync(struct q2_stream *s, struct q2_error *err)
{
    int error;

    do
        error = fdatasync(s->fd) < 0 ? errno : 0;
    while (error == EINTR);
    return error ? q2_fail_errno(err, error, "cannot sync") : 0;
}
