/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-file.h"

#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* What is written at a new end: no more than the smallest block of the page cache. */
#define END 4096

/* ---- errors, and the size ---- */

int live_file_sync_failed(struct live_file *f, int r)
{
    int none = 0;

    atomic_compare_exchange_strong(&f->sync_error, &none, -r);
    return r;
}

static void reaches(struct live_file *f, uint64_t end)
{
    uint64_t size = atomic_load(&f->size);

    while (size < end && !atomic_compare_exchange_weak(&f->size, &size, end))
        ;
}

/* A write failed which may have grown the file before. */
static void look_at_size(struct live_file *f)
{
    struct stat st;

    if (!f->device && fstat(f->fd, &st) == 0)
        reaches(f, (uint64_t)st.st_size);
}

/* ---- the usual operations ---- */

static int usual_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    char *p = buffer;

    while (length > 0) {
        ssize_t n = pread(f->fd, p, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            memset(p, 0, length);
            return 0;
        }
        p += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

static int usual_sync(struct live_file *f)
{
    int r;

    do {
        r = fdatasync(f->fd);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? live_file_sync_failed(f, -errno) : 0;
}

static int write_plainly(struct live_file *f, const void *buffer, size_t length, uint64_t offset)
{
    int r = pwrite_all(f->fd, buffer, length, offset);

    if (r < 0)
        look_at_size(f);
    else
        reaches(f, offset + length);
    return r;
}

/* Bytes that have been written are written once more, now through to the medium. Any error may be that of
 * the medium. */
static int write_through(struct live_file *f, const void *buffer, size_t length, uint64_t offset)
{
    int r = -EOPNOTSUPP;

    if (!atomic_load(&f->no_dsync))
        r = pwritev2_all(f->fd, buffer, length, offset, RWF_DSYNC);
    if (r != -EOPNOTSUPP)
        return r < 0 ? live_file_sync_failed(f, r) : 0;
    atomic_store(&f->no_dsync, true);
    return usual_sync(f);
}

/*
 * In two steps, so that a full file system is known from a full (thin) device: the first step finds no room,
 * and nothing is lost; in the second, the kernel has dropped what it had taken before, which is final.
 */
static int usual_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset,
                        bool durable)
{
    int r = write_plainly(f, buffer, length, offset);

    return r < 0 || !durable ? r : write_through(f, buffer, length, offset);
}

static int usual_extend(struct live_file *f, uint64_t size)
{
    static const char zeroes[END];
    uint64_t old = atomic_load(&f->size);
    uint64_t length = size - old < END ? size - old : END;

    if (size <= old)
        return 0;
    return usual_pwrite(f, zeroes, (size_t)length, size - length, true);
}

static int usual_shorten(struct live_file *f, uint64_t size)
{
    int r;

    do {
        r = ftruncate(f->fd, (off_t)size);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    atomic_store(&f->size, size);
    return 0;
}

/* fallocate, unless it is known not to work. */
static int allocate(struct live_file *f, int mode, uint64_t length, uint64_t offset,
                    atomic_bool *known_not_to_work)
{
    int r;

    if (atomic_load(known_not_to_work))
        return -ENOTSUP;
    do {
        r = fallocate(f->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
    } while (r < 0 && errno == EINTR);
    if (r == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != ENODEV)
        return -errno;
    atomic_store(known_not_to_work, true);
    return -ENOTSUP;
}

/* For file systems that have holes but no ZERO_RANGE. What is allocated first changes no data, and
 * shows whether there is room. */
static int punch_and_allocate(struct live_file *f, uint64_t length, uint64_t offset)
{
    int r = allocate(f, 0, length, offset, &f->no_allocate);

    if (r == 0)
        r = allocate(f, FALLOC_FL_PUNCH_HOLE, length, offset, &f->no_punch);
    return r < 0 ? r : allocate(f, 0, length, offset, &f->no_allocate);
}

static int usual_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole)
{
    int r = -ENOTSUP;

    if (length == 0)
        return 0;
    if (hole)
        r = allocate(f, FALLOC_FL_PUNCH_HOLE, length, offset, &f->no_punch);
    if (r == -ENOTSUP)
        r = allocate(f, FALLOC_FL_ZERO_RANGE, length, offset, &f->no_zero_range);
    return r == -ENOTSUP ? punch_and_allocate(f, length, offset) : r;
}

const struct live_file_ops live_file_usual = {
    .pread = usual_pread,
    .pwrite = usual_pwrite,
    .sync = usual_sync,
    .extend = usual_extend,
    .shorten = usual_shorten,
    .zero = usual_zero,
};

/* ---- through the operations ---- */

/* What is to become durable after a sync has failed never does; and what seemed to while it
 * failed may not have. */
static int unless_failed(struct live_file *f, int r)
{
    int error = atomic_load(&f->sync_error);

    return error ? -error : r;
}

int live_file_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    return f->ops->pread(f, buffer, length, offset);
}

int live_file_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset)
{
    return f->ops->pwrite(f, buffer, length, offset, false);
}

int live_file_pwrite_durable(struct live_file *f, const void *buffer, size_t length,
                             uint64_t offset)
{
    int r = unless_failed(f, 0);

    if (r == 0)
        r = f->ops->pwrite(f, buffer, length, offset, true);
    return r < 0 ? r : unless_failed(f, 0);
}

int live_file_sync(struct live_file *f)
{
    int r = unless_failed(f, 0);

    if (r == 0 && (r = f->ops->sync(f)) < 0)
        live_file_sync_failed(f, r);
    return r < 0 ? r : unless_failed(f, 0);
}

int live_file_extend(struct live_file *f, uint64_t size)
{
    int r = unless_failed(f, 0);

    if (r == 0)
        r = f->ops->extend(f, size);
    return r < 0 ? r : unless_failed(f, 0);
}

int live_file_shorten(struct live_file *f, uint64_t size)
{
    return f->ops->shorten(f, size);
}

int live_file_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole)
{
    return f->ops->zero(f, length, offset, hole);
}
