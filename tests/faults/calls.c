/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For LD_PRELOAD: which system calls a request comes to. (calls.py is the other side.)
 *
 * Stands in for libc's wrappers of the calls that read, write, flush or map a file, and notes those
 * on the file $FLEECE_CALLS_OF, a line each, in the file $FLEECE_CALLS: name, offset, length,
 * flags; what a call does not have is 0. A line is there before its call is made. fallocate is not
 * supported where $FLEECE_NO_FALLOCATE is set.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* A preloaded library has nobody to pass it a context. */
static struct {
    const char *of; /* NULL: nothing is noted */
    int notes;
    bool no_fallocate;
} self;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FLEECE_CALLS");

    if (!path)
        return;
    self.notes = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (self.notes < 0) {
        perror(path);
        _exit(1);
    }
    self.of = getenv("FLEECE_CALLS_OF");
    self.no_fallocate = getenv("FLEECE_NO_FALLOCATE") != NULL;
}

static void note(const char *name, int fd, off_t offset, size_t length, int flags)
{
    struct stat seen, wanted;
    char line[120];
    int error = errno;

    if (self.of && fstat(fd, &seen) == 0 && stat(self.of, &wanted) == 0 &&
        seen.st_dev == wanted.st_dev && seen.st_ino == wanted.st_ino) {
        int n =
            snprintf(line, sizeof line, "%s %lld %zu %d\n", name, (long long)offset, length, flags);
        if (write(self.notes, line, (size_t)n) != n)
            abort();
    }
    errno = error;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pread(int fd, void *buf, size_t length, off_t offset)
{
    note("pread", fd, offset, length, 0);
    return REAL(pread)(fd, buf, length, offset);
}

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    note("preadv2", fd, offset, iov->iov_len, flags);
    return REAL(preadv2)(fd, iov, n, offset, flags);
}

ssize_t pwrite(int fd, const void *buf, size_t length, off_t offset)
{
    note("pwrite", fd, offset, length, 0);
    return REAL(pwrite)(fd, buf, length, offset);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    note("pwritev2", fd, offset, iov->iov_len, flags);
    return REAL(pwritev2)(fd, iov, n, offset, flags);
}

int fdatasync(int fd)
{
    note("fdatasync", fd, 0, 0, 0);
    return REAL(fdatasync)(fd);
}

int fsync(int fd)
{
    note("fsync", fd, 0, 0, 0);
    return REAL(fsync)(fd);
}

int sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
    note("sync_file_range", fd, offset, (size_t)length, (int)flags);
    return REAL(sync_file_range)(fd, offset, length, flags);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    note("fallocate", fd, offset, (size_t)length, mode);
    if (self.no_fallocate) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return REAL(fallocate)(fd, mode, offset, length);
}

int posix_fadvise(int fd, off_t offset, off_t length, int advice)
{
    note("fadvise", fd, offset, (size_t)length, advice);
    return REAL(posix_fadvise)(fd, offset, length, advice);
}

off_t lseek(int fd, off_t offset, int whence)
{
    note("lseek", fd, offset, 0, whence);
    return REAL(lseek)(fd, offset, whence);
}
