/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A raw file or a block device. How a range becomes zero: a hole, where that is promised to read as
 * zeroes (of a file; of a device by fallocate(2), which fails where its discard does not promise
 * it: BLKDISCARD is not used); else whatever makes zeroes without sending them; else they are
 * written. What a file or device cannot do is not tried again.
 */
#include "common/copy/targets.h"

#include "common/base/file-io.h"
#include "common/util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A device that has to write zeroes by itself is not asked for too many at once: a cancelled copy
 * waits for them. */
#define DEVICE_STEP (UINT64_C(16) << 20)
#define ZEROES      65536

/* Ways to make zeroes, best first. */
enum way { WAY_HOLE, WAY_RANGE, WAY_DEVICE, WAY_WRITE };

struct target_raw {
    struct copy_target base;
    int fd;
    char *name;
    bool clean, device;
    pthread_mutex_t writing; /* to a file. The kernel lets in one thread at a time, and others that
                                wait there do so by spinning. */
    gint way;                /* the first that has not been refused; atomic */
    gint cancelled;          /* atomic */
};

static struct target_raw *of(struct copy_target *t)
{
    return (struct target_raw *)t;
}

static int write_at(struct target_raw *r, const void *data, size_t length, uint64_t offset,
                    GError **err)
{
    int error;

    if (!r->device)
        pthread_mutex_lock(&r->writing);
    error = pwrite_all(r->fd, data, length, offset);
    if (!r->device)
        pthread_mutex_unlock(&r->writing);
    return error ? fail_errno(err, error, "Cannot write to '%s' at %" G_GUINT64_FORMAT, r->name,
                              offset)
                 : 0;
}

static int raw_write(struct copy_target *t, unsigned lane, const struct copy_piece *pieces,
                     size_t n, GError **err)
{
    (void)lane;
    for (size_t i = 0; i < n; i++) {
        if (write_at(of(t), pieces[i].data, pieces[i].length, pieces[i].offset, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- zeroes ---- */

/* 0, or a negative errno. */
static int try_way(struct target_raw *r, enum way way, uint64_t offset, uint64_t length)
{
    uint64_t range[2] = {offset, length};
    int result;

    do {
        if (way == WAY_HOLE)
            result = fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                               (off_t)length);
        else if (way == WAY_RANGE)
            result = fallocate(r->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                               (off_t)length);
        else
            result = ioctl(r->fd, BLKZEROOUT, range);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

/* The file or device cannot do it at all, or not here (an end that is not of whole sectors). */
static bool is_refusal(int error)
{
    return error == -EOPNOTSUPP || error == -ENOTTY || error == -ENOSYS || error == -EINVAL ||
           error == -EPERM || error == -ENODEV;
}

static int write_zeroes(struct target_raw *r, uint64_t offset, uint64_t length, GError **err)
{
    static const uint8_t zeroes[ZEROES];

    for (uint64_t done = 0; done < length;) {
        size_t n = MIN(length - done, sizeof zeroes);

        if (g_atomic_int_get(&r->cancelled))
            return fail(err, "Writing to '%s' was cancelled", r->name);
        if (write_at(r, zeroes, n, offset + done, err) < 0)
            return -1;
        done += n;
    }
    return 0;
}

static int zero_step(struct target_raw *r, uint64_t offset, uint64_t length, GError **err)
{
    for (int way = g_atomic_int_get(&r->way); way < WAY_WRITE; way++) {
        int error;

        if (way == WAY_DEVICE && !r->device)
            continue;
        error = try_way(r, way, offset, length);
        if (!error)
            return 0;
        if (!is_refusal(error))
            return fail_errno(err, error,
                              "Cannot make zeroes of %" G_GUINT64_FORMAT
                              " bytes in '%s' at %" G_GUINT64_FORMAT,
                              length, r->name, offset);
        if (error != -EINVAL)
            g_atomic_int_set(&r->way, way + 1);
    }
    return write_zeroes(r, offset, length, err);
}

static int raw_zero(struct copy_target *t, unsigned lane, uint64_t offset, uint64_t length,
                    GError **err)
{
    struct target_raw *r = of(t);
    uint64_t step = r->device ? DEVICE_STEP : length;

    (void)lane;
    if (r->clean)
        return 0;
    for (uint64_t done = 0; done < length;) {
        uint64_t n = MIN(step, length - done);

        if (g_atomic_int_get(&r->cancelled))
            return fail(err, "Writing to '%s' was cancelled", r->name);
        if (zero_step(r, offset + done, n, err) < 0)
            return -1;
        done += n;
    }
    return 0;
}

/* ---- the end ---- */

static int raw_sync(struct copy_target *t, GError **err)
{
    if (fdatasync(of(t)->fd) < 0)
        return fail_errno(err, errno, "Cannot make '%s' durable", of(t)->name);
    return 0;
}

static void raw_cancel(struct copy_target *t)
{
    g_atomic_int_set(&of(t)->cancelled, 1);
}

static void raw_free(struct copy_target *t)
{
    pthread_mutex_destroy(&of(t)->writing);
    g_free(of(t)->name);
    g_free(t);
}

/* ---- making one ---- */

/* Its size, and the align of its zeroes. */
static int look(struct target_raw *r, uint64_t *size, GError **err)
{
    struct stat st;
    int sector = 512;

    if (fstat(r->fd, &st) < 0)
        return fail_errno(err, errno, "Cannot look at '%s'", r->name);
    r->device = S_ISBLK(st.st_mode);
    r->base.align = 1;
    *size = (uint64_t)st.st_size;
    if (!r->device)
        return S_ISREG(st.st_mode) ? 0 : fail(err, "'%s' is no file and no block device", r->name);
    if (ioctl(r->fd, BLKGETSIZE64, size) < 0)
        return fail_errno(err, errno, "Cannot learn the size of the device '%s'", r->name);
    if (ioctl(r->fd, BLKSSZGET, &sector) == 0 && sector > 0)
        r->base.align = (uint32_t)sector;
    return 0;
}

struct copy_target *target_raw_new(int fd, const char *name, uint64_t size, bool clean,
                                   GError **err)
{
    static const struct copy_target_ops ops = {.write = raw_write,
                                               .zero = raw_zero,
                                               .sync = raw_sync,
                                               .finish = raw_sync,
                                               .cancel = raw_cancel,
                                               .free = raw_free};
    struct target_raw *r = g_new0(struct target_raw, 1);
    uint64_t has;

    r->base = (struct copy_target){.ops = &ops, .size = size};
    r->fd = fd;
    r->name = g_strdup(name);
    r->clean = clean;
    pthread_mutex_init(&r->writing, NULL);
    if (look(r, &has, err) == 0) {
        if (has >= size)
            return &r->base;
        fail(err,
             "'%s' has %" G_GUINT64_FORMAT " bytes, less than the %" G_GUINT64_FORMAT
             " of the disk",
             name, has, size);
    }
    raw_free(&r->base);
    return NULL;
}
