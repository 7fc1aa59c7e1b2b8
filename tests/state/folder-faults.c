/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For LD_PRELOAD: calls on the files of one folder fail, or never come back.
 *
 *   FLEECE_FAULTS_FOLDER   the folder, without links in its path
 *   FLEECE_FAULTS_CONTROL  a file that the test maps as well: struct control
 *   FLEECE_FAULTS_HANG     a descriptor: calls that hang go on when its other end is closed
 *
 * Unlike faults.c this counts the calls of libraries too: SQLite's files are in the folder.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* As in test-faults.py. */
enum kind { SYNC = 1, WRITE = 2, OPEN = 4, SPACE = 8, NAMES = 16, READ = 32 };

struct control {
    atomic_uint kinds; /* which calls: a sum of enum kind */
    atomic_int error;  /* what they fail with; 0: they hang */
    atomic_uint hits;
};

/* A preloaded library has nobody to pass it a context. */
static struct {
    struct control *control; /* NULL: all calls pass */
    const char *folder;
    int hang;
} self;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FLEECE_FAULTS_CONTROL"), *hang = getenv("FLEECE_FAULTS_HANG");

    self.folder = getenv("FLEECE_FAULTS_FOLDER");
    if (!path || !hang || !self.folder)
        return;
    self.hang = atoi(hang);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *control = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) {
        perror(path);
        _exit(1);
    }
    close(fd);
    self.control = control;
}

static bool is_inside(const char *path)
{
    size_t length = strlen(self.folder);

    return !strncmp(path, self.folder, length) && (path[length] == '/' || !path[length]);
}

static bool is_ours(int fd, const char *path)
{
    char link[40], target[4096];

    if (path && path[0] == '/')
        return is_inside(path);
    if (fd < 0)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    target[n < 0 ? 0 : n] = '\0';
    return is_inside(target);
}

/* True: the call fails, and errno is set. */
static bool fails(enum kind kind, int fd, const char *path)
{
    if (!self.control || !(atomic_load(&self.control->kinds) & kind) || !is_ours(fd, path))
        return false;
    atomic_fetch_add(&self.control->hits, 1);
    errno = atomic_load(&self.control->error);
    if (errno)
        return true;
    struct pollfd end = {self.hang, POLLIN, 0};
    while (poll(&end, 1, -1) < 0)
        ;
    return false;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fdatasync(int fd)
{
    return fails(SYNC, fd, NULL) ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
    return fails(SYNC, fd, NULL) ? -1 : REAL(fsync)(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
    return fails(SYNC, fd, NULL) ? -1 : REAL(sync_file_range)(fd, offset, length, flags);
}

ssize_t pread(int fd, void *buf, size_t length, off_t offset)
{
    return fails(READ, fd, NULL) ? -1 : REAL(pread)(fd, buf, length, offset);
}

ssize_t pread64(int fd, void *buf, size_t length, off64_t offset)
{
    return fails(READ, fd, NULL) ? -1 : REAL(pread64)(fd, buf, length, offset);
}

ssize_t write(int fd, const void *buf, size_t length)
{
    return fails(WRITE, fd, NULL) ? -1 : REAL(write)(fd, buf, length);
}

ssize_t pwrite(int fd, const void *buf, size_t length, off_t offset)
{
    return fails(WRITE, fd, NULL) ? -1 : REAL(pwrite)(fd, buf, length, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t length, off64_t offset)
{
    return fails(WRITE, fd, NULL) ? -1 : REAL(pwrite64)(fd, buf, length, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return fails(SPACE, fd, NULL) ? -1 : REAL(fallocate)(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    return fails(SPACE, fd, NULL) ? errno : REAL(posix_fallocate)(fd, offset, length);
}

int ftruncate(int fd, off_t length)
{
    return fails(SPACE, fd, NULL) ? -1 : REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return fails(SPACE, fd, NULL) ? -1 : REAL(ftruncate64)(fd, length);
}

#define MODE(flags, last) ((flags) & (O_CREAT | O_TMPFILE) ? va_arg(last, mode_t) : 0)

int open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = MODE(flags, args);
    va_end(args);
    return fails(OPEN, -1, path) ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = MODE(flags, args);
    va_end(args);
    return fails(OPEN, -1, path) ? -1 : REAL(open64)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = MODE(flags, args);
    va_end(args);
    return fails(OPEN, folder, path) ? -1 : REAL(openat)(folder, path, flags, mode);
}

int unlinkat(int folder, const char *path, int flags)
{
    return fails(NAMES, folder, path) ? -1 : REAL(unlinkat)(folder, path, flags);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return fails(NAMES, from_folder, from) ? -1 : REAL(renameat)(from_folder, from, to_folder, to);
}
