/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening and closing an image, and its facts. */
#include "plugins/lib/image.h"

#include "common/base/nbdkit-abi.h"
#include "common/base/qemu-locks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ---- opening ---- */

/* Does this error of opening for writing mean that the file is read-only? Where we have run out of
 * something (descriptors, memory) it does not: that may soon be over, and must not make a disk
 * read-only. */
static bool forbids_writing(int error)
{
    return error == EACCES || error == EPERM || error == EROFS || error == ETXTBSY;
}

/* A device may be opened for writing although it refuses every write. */
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

/* The alignment of direct I/O as the kernel tells it; 0: it does not (before Linux 6.1). */
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
    /* The end of the file must be reachable where it is no whole block. */
    int64_t size = image_size(im);
    im->min_block = size >= 0 && size % im->align ? 1 : im->align;
    return 0;
}

static int take_locks(const struct image *im)
{
    enum qemu_locks who = im->writable ? QEMU_LOCKS_WRITE : QEMU_LOCKS_READ;
    char why[PATH_MAX + 200];
    int r = qemu_locks_take(im->fd, who, im->path, why, sizeof why);

    if (r > 0)
        nbdkit_debug("%s", why);
    if (r < 0)
        nbdkit_error("%s (locking=off ignores that, at your risk)", why);
    return r < 0 ? -1 : 0;
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
        (o->lock && take_locks(im) < 0) || (o->direct && open_direct(im, s, name) < 0)) {
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

/* A partition has no queue of its own. Its disk's is one folder further up. */
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
