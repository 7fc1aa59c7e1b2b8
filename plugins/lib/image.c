/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening, reading, writing, flushing.
 *
 * Direct I/O wants offset, length and memory aligned. Where only the memory is not, data goes
 * through an aligned buffer of our own. Where the range is not (only the tail of a file whose size
 * is no multiple of the alignment: else that is the minimum block that clients are told), it goes
 * through the page cache, alone, and is dropped from there at once.
 */
#include "plugins/lib/image.h"

#include "plugins/lib/qemu-locks.h"
#include "common/base/nbdkit-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define BOUNCE_MAX (1u << 20)

/* ---- opening ---- */

/* May a file that cannot be opened for writing be good for reading? Not where the trouble is ours
 * (no descriptors, no memory) and may be over soon: a disk must not become read-only by that. */
static bool forbids_writing(int error)
{
    return error == EACCES || error == EPERM || error == EROFS || error == ETXTBSY;
}

/* A device may let itself be opened for writing, and then refuse every write. */
static bool is_readonly_device(int fd)
{
    struct stat st;
    int readonly = 0;

    return fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && ioctl(fd, BLKROGET, &readonly) == 0 &&
           readonly;
}

static int open_readonly_after_all(struct image *im, const struct source *s, const char *name,
                                   int flags, int error)
{
    if (!forbids_writing(error)) {
        errno = error;
        return -1;
    }
    im->fd = source_open(s, name, (flags & ~O_ACCMODE) | O_RDONLY);
    if (im->fd >= 0)
        nbdkit_error("%s: %s: it is served read-only", im->path, strerror(error));
    else
        errno = error;
    return im->fd;
}

static int open_image(struct image *im, const struct source *s, const char *name, bool writable)
{
    int flags = O_CLOEXEC | O_NOCTTY | (writable ? O_RDWR : O_RDONLY);

    im->writable = writable;
    im->fd = source_open(s, name, flags);
    if (writable && im->fd >= 0 && is_readonly_device(im->fd)) {
        close(im->fd);
        im->fd = -1;
        errno = EROFS;
    }
    if (im->fd < 0 && writable) {
        im->writable = false;
        open_readonly_after_all(im, s, name, flags, errno);
    }
    if (im->fd >= 0)
        return 0;
    if (errno == ENOTSUP)
        nbdkit_error("%s: neither a regular file nor a block device", im->path);
    else
        nbdkit_error("open: %s: %m%s", im->path,
                     s->kind == SOURCE_FOLDER ? " (dir: the name of the disk, or of the client's "
                                                "export, chooses the file)"
                                              : "");
    return -1;
}

static int check_kind(struct image *im)
{
    struct stat st;
    int sector = 0;

    if (fstat(im->fd, &st) < 0) {
        nbdkit_error("stat: %s: %m", im->path);
        return -1;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        nbdkit_error("%s: neither a regular file nor a block device", im->path);
        return -1;
    }
    im->block_device = S_ISBLK(st.st_mode);
    im->sector = 512;
    if (im->block_device && ioctl(im->fd, BLKSSZGET, &sector) == 0 && sector > 0)
        im->sector = (uint32_t)sector;
    return 0;
}

/* What the kernel says that direct I/O must be aligned to; 0: it does not say (before Linux 6.1).
 */
static uint32_t stated_alignment(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && (st.stx_mask & STATX_DIOALIGN)) {
        uint32_t align = st.stx_dio_offset_align;
        return align > st.stx_dio_mem_align ? align : st.stx_dio_mem_align;
    }
#endif
    return 0;
}

/* The smallest alignment that a direct read takes. */
static uint32_t find_alignment(int fd)
{
    uint32_t align = stated_alignment(fd);
    void *buf;

    if (align)
        return align < 512 ? 512 : align;
    if (posix_memalign(&buf, 4096, 4096))
        return 4096;
    for (align = 512; align < 4096; align *= 2) {
        if (pread(fd, buf, align, 0) >= 0)
            break;
    }
    free(buf);
    return align;
}

static int open_direct(struct image *im, const struct source *s, const char *name)
{
    int flags = O_CLOEXEC | O_NOCTTY | O_DIRECT | (im->writable ? O_RDWR : O_RDONLY);

    im->direct_fd = source_open(s, name, flags);
    if (im->direct_fd < 0) {
        nbdkit_error("open: %s: direct=true: %m%s", im->path,
                     errno == EINVAL ? " (this file system has no direct I/O)" : "");
        return -1;
    }
    im->align = im->block_device ? im->sector : find_alignment(im->direct_fd);
    /* A tail shorter than a block must be reachable. */
    int64_t size = image_size(im);
    im->min_block = size >= 0 && size % im->align ? 1 : im->align;
    return 0;
}

int image_open(struct image *im, const struct source *s, const char *name, bool writable,
               const struct image_options *o)
{
    memset(im, 0, sizeof *im);
    im->fd = im->direct_fd = -1;
    im->align = im->min_block = 1;
    im->evicts = o->evict && !o->direct;
    pthread_rwlock_init(&im->direct_lock, NULL);
    evict_init(&im->evict);
    im->path = source_label(s, name);
    if (!im->path || open_image(im, s, name, writable) < 0 || check_kind(im) < 0 ||
        (o->lock && qemu_locks_take(im->fd, im->writable, im->path) < 0) ||
        (o->direct && open_direct(im, s, name) < 0)) {
        image_close(im);
        return -1;
    }
    if (o->advice != POSIX_FADV_NORMAL) {
        int r = posix_fadvise(im->fd, 0, 0, o->advice);
        if (r)
            nbdkit_debug("%s: posix_fadvise: %s", im->path, strerrordesc_np(r));
    }
    return 0;
}

void image_close(struct image *im)
{
    if (im->direct_fd >= 0)
        close(im->direct_fd);
    if (im->fd >= 0)
        close(im->fd);
    im->fd = im->direct_fd = -1;
    pthread_rwlock_destroy(&im->direct_lock);
    evict_free(&im->evict);
    free(im->path);
}

/* ---- facts ---- */

int64_t image_size(struct image *im)
{
    struct stat st;
    uint64_t bytes;

    if (im->block_device) {
        if (ioctl(im->fd, BLKGETSIZE64, &bytes) < 0)
            return -1;
        return (int64_t)bytes;
    }
    return fstat(im->fd, &st) < 0 ? -1 : (int64_t)st.st_size;
}

int image_resize(struct image *im, uint64_t size)
{
    int r;

    if (im->block_device) {
        errno = ENOTSUP;
        return -1;
    }
    do {
        r = ftruncate(im->fd, (off_t)size);
    } while (r < 0 && errno == EINTR);
    return r;
}

/* A partition has no queue of its own: that of the disk it is on is one folder up. */
bool image_rotational(const struct image *im)
{
    static const char *const places[] = {"queue", "../queue"};
    struct stat st;

    if (!im->block_device || fstat(im->fd, &st) < 0)
        return false;
    for (int i = 0; i < 2; i++) {
        char path[80];
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/rotational", major(st.st_rdev),
                 minor(st.st_rdev), places[i]);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        int c = fgetc(f);
        fclose(f);
        return c == '1';
    }
    return false;
}

/* ---- transfer: all of it or an error ---- */

static int read_all(int fd, char *buf, uint32_t count, uint64_t offset)
{
    while (count > 0) {
        ssize_t n = pread(fd, buf, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) { /* somebody has made the file shorter */
            errno = EIO;
            return -1;
        }
        buf += n;
        count -= (uint32_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int write_all(int fd, const char *buf, uint32_t count, uint64_t offset, int flags)
{
    while (count > 0) {
        struct iovec iov = {.iov_base = (void *)buf, .iov_len = count};
        ssize_t n = pwritev2(fd, &iov, 1, (off_t)offset, flags);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) {
            errno = EIO;
            return -1;
        }
        buf += n;
        count -= (uint32_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* ---- flushing ---- */

/*
 * After a failed fdatasync the kernel may have dropped the pages and forgotten the error: the next
 * one would succeed and lie. So the first failure is final for this image.
 */
int image_note_sync_error(struct image *im)
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
        return image_note_sync_error(im);
    if (im->evicts)
        evict_flushed(im);
    return 0;
}

/* Write and make persistent: by the write itself where the kernel can. */
static int write_through(struct image *im, int fd, const char *buf, uint32_t count, uint64_t offset)
{
    if (!atomic_load(&im->no_dsync)) {
        if (write_all(fd, buf, count, offset, RWF_DSYNC) == 0)
            return 0;
        if (errno == EIO) /* of writing or of syncing: it cannot be told */
            return image_note_sync_error(im);
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
        r = image_note_sync_error(im);
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
        evict_read(im, count, offset);
    return r;
}

int image_write(struct image *im, const void *buf, uint32_t count, uint64_t offset, bool fua)
{
    struct transfer t = {.out = buf, .count = count, .offset = offset, .fua = fua};
    int r = transfer(im, &t);

    if (r == 0 && im->evicts)
        evict_written(im, count, offset, fua);
    return r;
}
