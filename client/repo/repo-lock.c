/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/repo-lock.h"
#include "client/base/error.h"
#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS (O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)

static int open_lock(const char *file, bool exclusive)
{
    int fd = exclusive ? -1 : open(file, O_RDONLY | FLAGS);

    if (fd < 0 && (exclusive || errno == ENOENT))
        fd = open(file, O_RDWR | O_CREAT | FLAGS, 0600);
    return fd;
}

/* 1: it is locked; 0: somebody else has a lock in the way; -1: an error (errno). */
static int try_lock(int fd, int operation)
{
    while (flock(fd, operation | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR)
            return -1;
    }
    return 1;
}

/* Who has it alone writes its pid into the file. Who reads does not; then the file's pid is that of
 * one that has ended. */
static int fail_in_use(int fd, const char *path, GError **err)
{
    char text[24] = "";
    long pid;

    if (try_lock(fd, LOCK_SH) == 1)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s is being read by another process: try again when it has ended",
                           path);
    pid = pread(fd, text, sizeof text - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s is in use by process %ld", path, pid);
    return client_fail(err, CLIENT_ERROR_FAILED, "%s is in use by another process", path);
}

/* Only for the message of somebody else: a full disk does not matter here. */
static void write_pid(int fd)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) == 0 && pwrite_all(fd, text, (size_t)length, 0) < 0)
        (void)!ftruncate(fd, 0);
}

static int take(int fd, const char *path, bool exclusive, GError **err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return client_fail(err, CLIENT_ERROR_FAILED, "%s/lock: this is no file", path);
    switch (try_lock(fd, exclusive ? LOCK_EX : LOCK_SH)) {
    case 1:
        if (exclusive)
            write_pid(fd);
        return 0;
    case 0:
        return fail_in_use(fd, path, err);
    default:
        return client_fail(err, CLIENT_ERROR_FAILED, "%s/lock: cannot lock it: %s", path,
                           g_strerror(errno));
    }
}

int repo_lock(const char *path, bool exclusive, int *fd, GError **err)
{
    g_autofree char *file = g_build_filename(path, "lock", NULL);

    *fd = open_lock(file, exclusive);
    if (*fd < 0 && !exclusive && (errno == EROFS || errno == EACCES))
        return 0;
    if (*fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", file, g_strerror(errno));
    if (take(*fd, path, exclusive, err) == 0)
        return 0;
    close(*fd);
    *fd = -1;
    return -1;
}

void repo_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}
