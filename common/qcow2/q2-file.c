/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-file.h"

#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the kernel says that an open file lies: links cannot be exchanged between a look and this.
 * The caller frees it. */
static char *path_of_descriptor(int fd)
{
    char link[32], path[PATH_MAX];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path));
    if (n <= 0 || n == (ssize_t)sizeof(path) || path[0] != '/')
        return NULL;
    path[n] = 0;
    return strdup(path);
}

static bool lies_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && (folder[n - 1] == '/' || path[n] == '/');
}

static bool lies_below_one(const char *path, const char *const *folders)
{
    for (; *folders; folders++)
        if (lies_below(path, *folders))
            return true;
    return false;
}

/* What a descriptor is, which need not be open for reading. */
static int check_kind(struct q2_file *f, const char *path, struct q2_error *err)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return q2_fail_errno(err, errno, "Cannot look at '%s'", path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return q2_fail(err, "'%s' is no regular file and no block device", path);
    f->device = S_ISBLK(st.st_mode);
    f->dev = f->device ? st.st_rdev : st.st_dev;
    f->ino = f->device ? 0 : st.st_ino;
    return 0;
}

static int check_place(struct q2_file *f, const char *path, const char *const *folders,
                       struct q2_error *err)
{
    f->path = path_of_descriptor(f->fd);
    if (f->path && (!folders || lies_below_one(f->path, folders)))
        return 0;
    if (f->path) {
        q2_fail(err, "'%s' does not lie below the folder '%s' of the image%s", path, folders[0],
                folders[1] ? ", nor below one that is allowed" : "");
        if (err)
            err->number = EXDEV;
        return -1;
    }
    if (folders)
        return q2_fail(err, "Cannot tell where '%s' lies: /proc does not say it", path);
    f->path = strdup(path);
    return f->path ? 0 : q2_fail_errno(err, ENOMEM, "Cannot open '%s'", path);
}

/* Open what f->fd (O_PATH) stands for. Without /proc, by its path once more: whoever may exchange that file
 * for another may do so before, too. */
static int open_really(struct q2_file *f, const char *path, const struct q2_file_how *how,
                       struct q2_error *err)
{
    int flags = (how->writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd;
    struct q2_file looked_at = *f;
    char link[32];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", f->fd);
    fd = open(link, flags);
    if (fd < 0 && errno == ENOENT && !how->folders)
        fd = open(path, flags);
    if (fd < 0)
        return q2_fail_errno(err, errno, "Cannot open '%s'%s", path,
                             how->writable ? " for writing" : "");
    close(f->fd);
    f->fd = fd;
    if (check_kind(f, path, err) < 0)
        return -1;
    return q2_file_same(f, &looked_at)
               ? 0
               : q2_fail(err, "'%s' was exchanged while it was opened", path);
}

static int take_locks(struct q2_file *f, const struct q2_file_how *how, struct q2_error *err)
{
    char why[sizeof(err->text)];
    int r = qemu_locks_take(f->fd, how->locks, f->path, why, sizeof(why));

    if (r > 0 && how->tell)
        how->tell(how->opaque, why);
    if (r >= 0)
        return 0;
    q2_fail(err, "%s", why);
    if (err)
        err->number = EBUSY;
    return -1;
}

static int find_size(struct q2_file *f, struct q2_error *err)
{
    off_t end = lseek(f->fd, 0, SEEK_END);

    if (end < 0)
        return q2_fail_errno(err, errno, "Cannot tell the size of '%s'", f->path);
    f->size = (uint64_t)end;
    return 0;
}

int q2_file_open(struct q2_file *f, const char *path, const struct q2_file_how *how,
                 struct q2_error *err)
{
    memset(f, 0, sizeof(*f));
    f->fd = open(path, O_PATH | O_CLOEXEC);
    if (f->fd < 0)
        return q2_fail_errno(err, errno, "Cannot open '%s'", path);
    if (check_kind(f, path, err) == 0 && check_place(f, path, how->folders, err) == 0 &&
        open_really(f, path, how, err) == 0 && take_locks(f, how, err) == 0 &&
        find_size(f, err) == 0)
        return 0;
    q2_file_close(f);
    return -1;
}

void q2_file_close(struct q2_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    free(f->path);
    f->path = NULL;
}

char *q2_file_folder(const struct q2_file *f)
{
    const char *slash = strrchr(f->path, '/');

    if (!slash)
        return strdup(".");
    return slash == f->path ? strdup("/") : strndup(f->path, (size_t)(slash - f->path));
}

char *q2_file_named(const struct q2_file *by, const char *name, struct q2_error *err)
{
    size_t head = strcspn(name, ":/");
    char *folder, *path = NULL;

    if (name[head] == ':') {
        q2_fail(err,
                "%s names '%s', which is no path. A file of that name would be written as './%s'",
                by->path, name, name);
        return NULL;
    }
    if (name[0] == '/')
        return strdup(name);
    folder = q2_file_folder(by);
    if (!folder || asprintf(&path, "%s/%s", folder, name) < 0) {
        q2_fail_errno(err, ENOMEM, "Cannot open what %s names", by->path);
        path = NULL;
    }
    free(folder);
    return path;
}

bool q2_file_same(const struct q2_file *a, const struct q2_file *b)
{
    return a->device == b->device && a->dev == b->dev && a->ino == b->ino;
}

int q2_file_pread(const struct q2_file *f, void *buffer, size_t length, uint64_t offset,
                  struct q2_error *err)
{
    size_t inside = length;
    int r;

    if (offset >= f->size)
        inside = 0;
    else if (length > f->size - offset)
        inside = (size_t)(f->size - offset);
    r = pread_all(f->fd, buffer, inside, offset);
    if (r < 0)
        return q2_fail_errno(err, -r, "Cannot read %zu bytes at %llu of '%s'", inside,
                             (unsigned long long)offset, f->path);
    memset((char *)buffer + inside, 0, length - inside);
    return 0;
}

uint64_t q2_file_run(const struct q2_file *f, uint64_t offset, uint64_t end, bool *hole)
{
    off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA), next;

    /* ENXIO: nothing but a hole up to the end. */
    *hole = data < 0 ? errno == ENXIO : (uint64_t)data > offset;
    if (*hole)
        return data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
    next = data < 0 ? -1 : lseek(f->fd, (off_t)offset, SEEK_HOLE);
    return next <= (off_t)offset || (uint64_t)next > end ? end : (uint64_t)next;
}
