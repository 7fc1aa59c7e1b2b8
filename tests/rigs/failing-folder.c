/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/failing-folder.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* "": none fail. */
static char failing[64];
static unsigned failing_from, failing_for; /* the first so many work; then so many fail */
static pthread_mutex_t failing_lock = PTHREAD_MUTEX_INITIALIZER;

void fail_some_syncs(const char *text, unsigned from, unsigned n)
{
    pthread_mutex_lock(&failing_lock);
    g_strlcpy(failing, text ? text : "", sizeof failing);
    failing_from = from;
    failing_for = n;
    pthread_mutex_unlock(&failing_lock);
}

void fail_syncs(const char *text)
{
    fail_some_syncs(text, 0, UINT_MAX);
}

static void path_of(int fd, char *path, size_t size)
{
    char link[64];
    ssize_t n;

    g_snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = '\0';
}

static bool must_fail(int fd)
{
    char path[512];
    bool fails;

    path_of(fd, path, sizeof path);
    pthread_mutex_lock(&failing_lock);
    fails = failing[0] && strstr(path, failing);
    if (fails && failing_from > 0) {
        failing_from--;
        fails = false;
    } else if (fails && failing_for != UINT_MAX) {
        fails = failing_for > 0;
        failing_for -= fails;
    }
    pthread_mutex_unlock(&failing_lock);
    return fails;
}

static int sync_or_fail(int fd, long call)
{
    if (!must_fail(fd))
        return (int)syscall(call, fd);
    errno = EIO;
    return -1;
}

/* These take the place of libc's, for SQLite, too. */
int fdatasync(int fd);
int fdatasync(int fd)
{
    return sync_or_fail(fd, SYS_fdatasync);
}

int fsync(int fd);
int fsync(int fd)
{
    return sync_or_fail(fd, SYS_fsync);
}

static atomic_int reads;

void make_reads(enum reads how)
{
    reads = how;
}

ssize_t pread(int fd, void *buf, size_t length, off_t offset);
ssize_t pread(int fd, void *buf, size_t length, off_t offset)
{
    char path[512] = "";
    ssize_t n;

    if (reads != READS_WORK)
        path_of(fd, path, sizeof path);
    if (reads == READS_FAIL && strstr(path, "/bits/") && length > 4096) {
        errno = EIO;
        return -1;
    }
    n = syscall(SYS_pread64, fd, buf, length, offset);
    if (reads == READS_CUT && strstr(path, "/bits/") && offset != 0)
        g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    return n;
}
