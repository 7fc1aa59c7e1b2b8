/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading, writing, flushing.
 *
 * Direct I/O wants offset, length and memory aligned. Where only the memory is not, data goes
 * through an aligned buffer of our own. Where the range is not, it goes through the page cache
 * while no other transfer is under way, and is dropped from there at once. That happens only with a
 * file whose size is not a multiple of the alignment; with others, clients keep to the alignment,
 * which is their minimum block.
 */
#include "plugins/lib/image.h"

#include "common/base/file-io.h"
#include "common/base/nbdkit-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define BOUNCE_MAX (1u << 20)

/* Turn file-io.h's return values into -1 and errno. */
static int by_errno(int r)
{
    if (r == 0)
        return 0;
    errno = -r;
    return -1;
}

static int read_all(int fd, void *buf, uint32_t count, uint64_t offset)
{
    return by_errno(pread_all(fd, buf, count, offset));
}

static int write_all(int fd, const void *buf, uint32_t count, uint64_t offset, int flags)
{
    return by_errno(pwritev2_all(fd, buf, count, offset, flags));
}

/* ---- flushing ---- */

/*
 * After a failed fdatasync the kernel may have dropped the pages and forgotten the error: the next
 * one would succeed and lie. So the first failure is final for this image.
 */
static int note_sync_error(struct image *im)
{
    int error = errno, none = 0;

    if (atomic_compare_exchange_strong(&im->sync_error, &none, error))
        nbdkit_error("%s: flush failed: %m: what was written may be lost; every further flush "
                     "will fail",
                     im->path);
    errno = error;
    return -1;
}

int image_flush(struct image *im)
{
    int error = atomic_load(&im->sync_error);

    if (error) {
        errno = error;
        return -1;
    }
    if (!im->writable)
        return 0;
    if (fdatasync(im->fd) < 0)
        return note_sync_error(im);
    if (im->evicts)
        evict_flushed(&im->evict, im->fd);
    return 0;
}

/* Write and make persistent, by the write itself where the kernel can do that. */
static int write_through(struct image *im, int fd, const char *buf, uint32_t count, uint64_t offset)
{
    if (!atomic_load(&im->no_dsync)) {
        if (write_all(fd, buf, count, offset, RWF_DSYNC) == 0)
            return 0;
        if (errno == EIO) /* it cannot be told whether of writing or of syncing */
            return note_sync_error(im);
        if (errno != EOPNOTSUPP)
            return -1;
        atomic_store(&im->no_dsync, true);
    }
    return write_all(fd, buf, count, offset, 0) < 0 ? -1 : image_flush(im);
}

static int write_to(struct image *im, int fd, const char *buf, uint32_t count, uint64_t offset,
                    bool fua)
{
    if (!fua)
        return write_all(fd, buf, count, offset, 0);
    if (atomic_load(&im->sync_error))
        return image_flush(im);
    return write_through(im, fd, buf, count, offset);
}

/* ---- direct I/O ---- */

/* One request on its way, either direction. */
struct transfer {
    char *in;        /* read into this */
    const char *out; /* or write from this */
    uint32_t count;
    uint64_t offset;
    bool fua;
};

static int transfer_to(struct image *im, int fd, const struct transfer *t)
{
    return t->in ? read_all(fd, t->in, t->count, t->offset)
                 : write_to(im, fd, t->out, t->count, t->offset, t->fua);
}

/* The range is aligned, the memory is not. */
static int bounce(struct image *im, const struct transfer *t)
{
    uint32_t most = t->count < BOUNCE_MAX ? t->count : BOUNCE_MAX; /* both aligned */
    void *buf;
    int r = 0;

    if (posix_memalign(&buf, im->align < 4096 ? 4096 : im->align, most)) {
        errno = ENOMEM;
        return -1;
    }
    for (uint32_t done = 0; r == 0 && done < t->count;) {
        uint32_t n = t->count - done < most ? t->count - done : most;
        struct transfer piece = {.in = t->in ? buf : NULL,
                                 .out = buf,
                                 .count = n,
                                 .offset = t->offset + done,
                                 .fua = t->fua};
        if (t->out)
            memcpy(buf, t->out + done, n);
        r = transfer_to(im, im->direct_fd, &piece);
        if (r == 0 && t->in)
            memcpy(t->in + done, buf, n);
        done += n;
    }
    int error = errno;
    free(buf);
    errno = error;
    return r;
}

static int transfer_aligned(struct image *im, const struct transfer *t)
{
    uintptr_t memory = (uintptr_t)(t->in ? t->in : t->out);

    pthread_rwlock_rdlock(&im->direct_lock);
    int r = memory % im->align ? bounce(im, t) : transfer_to(im, im->direct_fd, t);
    pthread_rwlock_unlock(&im->direct_lock);
    return r;
}

static int transfer_unaligned(struct image *im, const struct transfer *t)
{
    pthread_rwlock_wrlock(&im->direct_lock);
    int r = transfer_to(im, im->fd, t);
    if (r == 0 && t->out && fdatasync(im->fd) < 0)
        r = note_sync_error(im);
    posix_fadvise(im->fd, (off_t)t->offset, t->count, POSIX_FADV_DONTNEED);
    pthread_rwlock_unlock(&im->direct_lock);
    return r;
}

static int transfer(struct image *im, const struct transfer *t)
{
    if (im->direct_fd < 0)
        return transfer_to(im, im->fd, t);
    if (t->offset % im->align == 0 && t->count % im->align == 0)
        return transfer_aligned(im, t);
    return transfer_unaligned(im, t);
}

int image_read(struct image *im, void *buf, uint32_t count, uint64_t offset)
{
    struct transfer t = {.in = buf, .count = count, .offset = offset};
    int r = transfer(im, &t);

    if (r == 0 && im->evicts)
        evict_read(im->fd, count, offset);
    return r;
}

int image_write(struct image *im, const void *buf, uint32_t count, uint64_t offset, bool fua)
{
    struct transfer t = {.out = buf, .count = count, .offset = offset, .fua = fua};
    int r = transfer(im, &t);

    if (r == 0 && im->evicts && evict_written(&im->evict, im->fd, count, offset, fua) < 0)
        note_sync_error(im); /* the write itself went well */
    return r;
}
