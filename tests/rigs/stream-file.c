/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/stream-file.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    int fd;
    unsigned calls;
    enum stream_fault fault;
    unsigned at;
    int error;
    const char *holes;
    size_t holes_length;
    bool synced; /* all that was written */
    bool early;
} watched = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

void stream_file_watch(int fd)
{
    watched.fd = fd;
    watched.calls = 0;
    watched.fault = FAULT_NONE;
    watched.holes = NULL;
    watched.synced = false;
    watched.early = false;
}

unsigned stream_file_calls(void)
{
    return watched.calls;
}

void stream_file_fault(enum stream_fault fault, unsigned call, int error)
{
    watched.at = call;
    watched.error = error;
    watched.fault = fault;
}

void stream_file_holes(const void *from, size_t length)
{
    watched.holes = from;
    watched.holes_length = length;
}

bool stream_file_header_was_early(void)
{
    return watched.early;
}

bool stream_file_all_synced(void)
{
    return watched.synced;
}

/* What becomes of this call: an errno value, or 0 and whether it is cut. */
static int judge(bool *cut)
{
    unsigned call = watched.calls++;

    *cut = false;
    if (watched.fault == FAULT_FAIL && call >= watched.at)
        return watched.error;
    if (watched.fault == FAULT_ONCE && call == watched.at)
        return watched.error;
    if (watched.fault == FAULT_CUT && call > watched.at)
        return watched.error;
    if (watched.fault == FAULT_INTERRUPT && call == watched.at)
        return EINTR;
    *cut = (watched.fault == FAULT_CUT && call == watched.at) ||
           (watched.fault == FAULT_SHORT && call >= watched.at);
    return 0;
}

static bool is_hole(const struct iovec *iov)
{
    const char *p = iov->iov_base;

    return watched.holes && p >= watched.holes &&
           p + iov->iov_len <= watched.holes + watched.holes_length;
}

static ssize_t leave_hole(int fd, size_t length, off_t offset)
{
    struct stat st;

    if (fstat(fd, &st) < 0 ||
        (st.st_size < offset + (off_t)length && ftruncate(fd, offset + (off_t)length) < 0))
        return -1;
    return (ssize_t)length;
}

static ssize_t really_write(int fd, const struct iovec *iov, int n, off_t offset)
{
    if (n == 1 && is_hole(iov))
        return leave_hole(fd, iov->iov_len, offset);
    /* The high half of the offset is in a word of its own, for machines of 32 bits. */
    return syscall(SYS_pwritev, fd, iov, n, (unsigned long)offset, 0ul);
}

static ssize_t write_watched(const struct iovec *iov, int n, off_t offset)
{
    struct iovec half = {iov[0].iov_base, iov[0].iov_len / 2};
    bool cut;
    int error = judge(&cut);

    if (error) {
        errno = error;
        return -1;
    }
    if (offset == 0 && !watched.synced && half.iov_len >= 8) /* not the magic's being taken away */
        watched.early = true;
    watched.synced = false;
    return cut && half.iov_len > 0 ? really_write(watched.fd, &half, 1, offset)
                                   : really_write(watched.fd, iov, n, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    ssize_t result;

    if (fd < 0 || fd != watched.fd)
        return syscall(SYS_pwritev, fd, iov, n, (unsigned long)offset, 0ul);
    pthread_mutex_lock(&watched.lock);
    result = write_watched(iov, n, offset);
    pthread_mutex_unlock(&watched.lock);
    return result;
}

ssize_t pwrite(int fd, const void *p, size_t length, off_t offset)
{
    struct iovec iov = {(void *)p, length};

    return pwritev(fd, &iov, 1, offset);
}

int fdatasync(int fd)
{
    bool cut;
    int error;

    if (fd != watched.fd)
        return (int)syscall(SYS_fdatasync, fd);
    pthread_mutex_lock(&watched.lock);
    error = judge(&cut);
    watched.synced = !error;
    pthread_mutex_unlock(&watched.lock);
    errno = error;
    return error ? -1 : 0;
}
