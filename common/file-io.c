/* SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "common/file-io.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

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

int pwrite_all(int fd, const void *buf, size_t length, uint64_t offset)
{
    const char *p = buf;

    while (length > 0) {
        ssize_t n = pwrite(fd, p, length, (off_t)offset);

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
