/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/storage-dir.h"

#include "common/base/file-io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS (O_NOFOLLOW | O_CLOEXEC | O_NOCTTY)
/* A FIFO that somebody has put in place of a file must not hold us up. */
#define FILE_FLAGS (O_RDWR | O_NONBLOCK | FLAGS)

struct dir {
    struct storage base;
    int fd;
    int held; /* storage_dir_hold; -1: nothing */
};

struct dir_file {
    struct storage_file base;
    int fd;
};

static int dir_fd(struct storage *s)
{
    return ((struct dir *)s)->fd;
}

static int file_fd(struct storage_file *f)
{
    return ((struct dir_file *)f)->fd;
}

static int open_regular(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, FILE_FLAGS | flags, 0600);
    struct stat st;
    int error;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        error = -errno;
    else if (!S_ISREG(st.st_mode))
        error = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    else
        return fd;
    close(fd);
    return error;
}

static int dir_open(struct storage *s, const char *name, bool create, struct storage_file **file)
{
    int fd = open_regular(dir_fd(s), name, create ? O_CREAT | O_EXCL : 0);
    struct dir_file *f;

    if (fd < 0)
        return fd;
    f = g_new0(struct dir_file, 1);
    f->base = (struct storage_file){.storage = s, .name = g_strdup(name)};
    f->fd = fd;
    *file = &f->base;
    return 0;
}

static void dir_close(struct storage_file *f)
{
    close(file_fd(f));
    g_free(f->name);
    g_free(f);
}

static int dir_size(struct storage_file *f, uint64_t *bytes)
{
    struct stat st;

    if (fstat(file_fd(f), &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

/* Read until the range or the file ends: the bytes read, or a negative errno. */
static ssize_t read_some(int fd, void *buf, size_t length, uint64_t offset)
{
    size_t done = 0;

    while (done < length) {
        ssize_t n = pread(fd, (char *)buf + done, length - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int dir_read(struct storage_file *f, void *buf, size_t length, uint64_t offset)
{
    ssize_t n = read_some(file_fd(f), buf, length, offset);

    if (n < 0)
        return (int)n;
    return (size_t)n == length ? 0 : -ENODATA;
}

static int dir_write(struct storage_file *f, const void *buf, size_t length, uint64_t offset)
{
    return pwrite_all(file_fd(f), buf, length, offset);
}

/* Give the file blocks by writing all of it: what it has, or zeroes. */
static int write_everywhere(int fd, uint64_t size)
{
    char piece[65536];
    int error = 0;

    for (uint64_t at = 0; at < size && error == 0; at += sizeof piece) {
        size_t length = MIN(size - at, sizeof piece);
        ssize_t n = read_some(fd, piece, length, at);

        if (n < 0)
            return (int)n;
        memset(piece + n, 0, length - (size_t)n);
        error = pwrite_all(fd, piece, length, at);
    }
    return error;
}

static int dir_reserve(struct storage_file *f, uint64_t size)
{
    int fd = file_fd(f);

    if (size > INT64_MAX)
        return -EFBIG;
    if (size == 0)
        return 0;
    while (fallocate(fd, 0, 0, (off_t)size) < 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            return write_everywhere(fd, size);
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static int dir_sync(struct storage_file *f)
{
    /* Not once more after an error, EINTR included. */
    return fdatasync(file_fd(f)) < 0 ? -errno : 0;
}

static int dir_map(struct storage_file *f, uint64_t offset, size_t length, void *at, void **mapped)
{
    void *p = mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0),
                   file_fd(f), (off_t)offset);

    if (p == MAP_FAILED)
        return -errno;
    *mapped = p;
    return 0;
}

static void dir_unmap(struct storage *s, void *mapped, size_t length)
{
    munmap(mapped, length);
}

static int dir_unlink(struct storage *s, const char *name)
{
    return unlinkat(dir_fd(s), name, 0) < 0 ? -errno : 0;
}

static int dir_rename(struct storage *s, const char *from, const char *to)
{
    return renameat(dir_fd(s), from, dir_fd(s), to) < 0 ? -errno : 0;
}

static int open_folder(struct storage *s, const char *folder)
{
    int fd = openat(dir_fd(s), folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | FLAGS);

    return fd < 0 ? -errno : fd;
}

static int dir_sync_names(struct storage *s, const char *folder)
{
    int fd = open_folder(s, folder), error;

    if (fd < 0)
        return fd;
    error = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return error;
}

static bool is_regular(DIR *d, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_REG;
    return fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static int dir_list(struct storage *s, const char *folder, GPtrArray *names)
{
    int fd = open_folder(s, folder), error;
    struct dirent *entry;
    DIR *d;

    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    d = fdopendir(fd);
    if (!d) {
        error = -errno;
        close(fd);
        return error;
    }
    while (errno = 0, (entry = readdir(d)))
        if (is_regular(d, entry))
            g_ptr_array_add(names, g_strdup(entry->d_name));
    error = -errno;
    closedir(d);
    return error;
}

static int dir_make_folder(struct storage *s, const char *folder)
{
    struct stat st;

    if (mkdirat(dir_fd(s), folder, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    if (fstatat(dir_fd(s), folder, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static void dir_free(struct storage *s)
{
    struct dir *d = (struct dir *)s;

    close(d->fd);
    if (d->held >= 0)
        close(d->held);
    g_free(s->path);
    g_free(d);
}

static const struct storage_ops dir_ops = {
    .open = dir_open,
    .close = dir_close,
    .size = dir_size,
    .read = dir_read,
    .write = dir_write,
    .reserve = dir_reserve,
    .sync = dir_sync,
    .map = dir_map,
    .unmap = dir_unmap,
    .unlink = dir_unlink,
    .rename = dir_rename,
    .sync_names = dir_sync_names,
    .list = dir_list,
    .make_folder = dir_make_folder,
    .free = dir_free,
};

static struct storage *new_dir(const struct storage_ops *ops, const char *path, int fd)
{
    struct dir *d = g_new0(struct dir, 1);

    d->base = (struct storage){.ops = ops, .path = g_strdup(path)};
    d->fd = fd;
    d->held = -1;
    return &d->base;
}

struct storage *storage_dir_new(const char *path, int fd)
{
    return new_dir(&dir_ops, path, fd);
}

void storage_dir_hold(struct storage *s, int fd)
{
    ((struct dir *)s)->held = fd;
}

/* ---- a folder in memory ---- */

static int memory_reserve(struct storage_file *f, uint64_t size)
{
    return ftruncate(file_fd(f), (off_t)size) < 0 ? -errno : 0;
}

static int memory_sync(struct storage_file *f)
{
    (void)f;
    return 0;
}

static int memory_sync_names(struct storage *s, const char *folder)
{
    (void)s;
    (void)folder;
    return 0;
}

static const struct storage_ops memory_ops = {
    .open = dir_open,
    .close = dir_close,
    .size = dir_size,
    .read = dir_read,
    .write = dir_write,
    .reserve = memory_reserve,
    .sync = memory_sync,
    .map = dir_map,
    .unmap = dir_unmap,
    .unlink = dir_unlink,
    .rename = dir_rename,
    .sync_names = memory_sync_names,
    .list = dir_list,
    .make_folder = dir_make_folder,
    .free = dir_free,
};

struct storage *storage_dir_new_memory(const char *path, int fd)
{
    return new_dir(&memory_ops, path, fd);
}

bool storage_is_dir(const struct storage *s)
{
    return s->ops == &dir_ops || s->ops == &memory_ops;
}

int storage_dir_fd(struct storage_file *f)
{
    return storage_is_dir(f->storage) ? file_fd(f) : -1;
}
