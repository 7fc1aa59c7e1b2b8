/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/file-io.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* All architectures but alpha have the same number for it. */
#if !defined(SYS_cachestat) && !defined(__alpha__)
#define SYS_cachestat 451
#endif

int pread_all(int fd, void *buf, size_t length, uint64_t offset)
{
    char *p = buf;

    while (length > 0) {
        ssize_t n = pread(fd, p, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

/* `flags`: of pwritev2; NULL: pwrite, which costs less. */
static int write_pieces(int fd, const char *p, size_t length, uint64_t offset, const int *flags)
{
    while (length > 0) {
        struct iovec iov = {.iov_base = (void *)p, .iov_len = length};
        ssize_t n = flags ? pwritev2(fd, &iov, 1, (off_t)offset, *flags)
                          : pwrite(fd, p, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

int pwrite_all(int fd, const void *buf, size_t length, uint64_t offset)
{
    return write_pieces(fd, buf, length, offset, NULL);
}

int pwritev2_all(int fd, const void *buf, size_t length, uint64_t offset, int flags)
{
    return write_pieces(fd, buf, length, offset, &flags);
}

int file_is_cached(int fd, uint64_t offset, uint64_t length)
{
#ifdef SYS_cachestat
    /* Both are as in linux/mman.h, where Debian 12 lacks them. The range is in bytes, what is found
     * is in pages. */
    struct {
        uint64_t offset, length;
    } range = {offset, length};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } found;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct stat st;

    if (length == 0)
        return 1;
    /* The last page of a file has more bytes than the file. */
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) && offset + length > (uint64_t)st.st_size)
        return 0;
    if (syscall(SYS_cachestat, fd, &range, &found, 0) < 0)
        return -errno;
    return found.cached > (offset + length - 1) / page - offset / page;
#else
    return -ENOSYS;
#endif
}
