/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For LD_PRELOAD: the process dies right before its n-th step, or the step fails. A step is a call that
 * changes which files there are, or makes them durable, or tells a server something.
 *
 *   FLEECE_STEPS=FILE       write a line for each step: what, and of which file
 *   FLEECE_STEP_KILL=STEP   SIGKILL before this step
 *   FLEECE_STEP_FAIL=STEP   this step fails with EIO
 *   FLEECE_STEP_WRITES=1    new files, and writes to files, are steps, too
 *   FLEECE_STEP_FREE=BYTES  so many are free in each file system
 *
 * STEP is a number from 1, or a whole such line, or "behind " and such a line: the step after it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long steps;

static void tell(const char *line)
{
    const char *log = getenv("FLEECE_STEPS");
    int fd = log ? openat(AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd < 0)
        return;
    if (dprintf(fd, "%s\n", line) < 0)
        abort();
    close(fd);
}

/* The step after one whose line is `line`. */
static bool is_behind(const char *meant, const char *line)
{
    static _Atomic bool seen;
    bool now = seen;

    if (strcmp(meant, line) == 0)
        seen = true;
    return now;
}

static bool is_meant(const char *variable, long n, const char *line)
{
    static const char behind[] = "behind ";
    const char *text = getenv(variable);

    if (text && strncmp(text, behind, strlen(behind)) == 0)
        return is_behind(text + strlen(behind), line);
    return text && (atol(text) == n || strcmp(text, line) == 0);
}

/* True: it is to fail, and errno is set. */
static bool step(const char *what, const char *path)
{
    long n = atomic_fetch_add(&steps, 1) + 1;
    char line[512];

    snprintf(line, sizeof line, "%s %.400s", what, path);
    tell(line);
    if (is_meant("FLEECE_STEP_KILL", n, line))
        kill(getpid(), SIGKILL);
    if (!is_meant("FLEECE_STEP_FAIL", n, line))
        return false;
    errno = EIO;
    return true;
}

static bool step_fd(const char *what, int fd)
{
    char link[32], path[400];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = '\0';
    return step(what, path);
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

int fsync(int fd)
{
    return step_fd("fsync", fd) ? -1 : REAL(int (*)(int), "fsync")(fd);
}

int fdatasync(int fd)
{
    return step_fd("fdatasync", fd) ? -1 : REAL(int (*)(int), "fdatasync")(fd);
}

int rename(const char *from, const char *to)
{
    return step("rename", to) ? -1 : REAL(int (*)(const char *, const char *), "rename")(from, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    typedef int (*function)(int, const char *, int, const char *, unsigned);

    return step("rename", to) ? -1 : REAL(function, "renameat2")(a, from, b, to, flags);
}

int unlink(const char *path)
{
    return step("unlink", path) ? -1 : REAL(int (*)(const char *), "unlink")(path);
}

int mkdir(const char *path, mode_t mode)
{
    return step("mkdir", path) ? -1 : REAL(int (*)(const char *, mode_t), "mkdir")(path, mode);
}

int link(const char *from, const char *to)
{
    return step("link", to) ? -1 : REAL(int (*)(const char *, const char *), "link")(from, to);
}

/* ---- new files, and writes ---- */

static bool step_write(const char *what, int fd)
{
    return getenv("FLEECE_STEP_WRITES") && step_fd(what, fd);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    va_start(args, flags);
    if (flags & O_CREAT)
        mode = va_arg(args, mode_t);
    va_end(args);
    if ((flags & O_CREAT) && getenv("FLEECE_STEP_WRITES") && step("create", path))
        return -1;
    return REAL(int (*)(const char *, int, ...), "open")(path, flags, mode);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    typedef ssize_t (*function)(int, const void *, size_t, off_t);

    return step_write("pwrite", fd) ? -1 : REAL(function, "pwrite")(fd, data, length, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    typedef ssize_t (*function)(int, const struct iovec *, int, off_t);

    return step_write("pwritev", fd) ? -1 : REAL(function, "pwritev")(fd, iov, n, offset);
}

int ftruncate(int fd, off_t length)
{
    return step_write("ftruncate", fd) ? -1 : REAL(int (*)(int, off_t), "ftruncate")(fd, length);
}

int statvfs(const char *path, struct statvfs *s)
{
    const char *bytes = getenv("FLEECE_STEP_FREE");
    int result = REAL(int (*)(const char *, struct statvfs *), "statvfs")(path, s);

    if (result == 0 && bytes)
        s->f_bavail = (fsblkcnt_t)strtoull(bytes, NULL, 10) / s->f_frsize;
    return result;
}

/* QMP requests; libnbd's are not counted, because how many there are depends on time. */
ssize_t send(int fd, const void *data, size_t length, int flags)
{
    typedef ssize_t (*function)(int, const void *, size_t, int);
    char begin[200];

    if (length > 2 && memcmp(data, "{\"", 2) == 0) {
        snprintf(begin, sizeof begin, "%.*s", (int)length - 1, (const char *)data);
        if (step("send", begin))
            return -1;
    }
    return REAL(function, "send")(fd, data, length, flags);
}
