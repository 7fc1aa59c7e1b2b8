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

/* Times that another process may be quicker. */
#define ATTEMPTS 100
#define FLAGS    (O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)

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

/* Does the name still lead to the file behind fd? Who gives up a repository that it has just made removes
 * its lock, and somebody may have opened that before. */
static bool has_name(int fd, const char *file)
{
    struct stat ours, named;

    return fstat(fd, &ours) == 0 && lstat(file, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

/* 1: *fd has it, or is -1 (see repo_lock); 0: it has gone meanwhile; -1 and *err. */
static int try_once(const char *path, const char *file, bool exclusive, int *fd, GError **err)
{
    int result;

    *fd = open_lock(file, exclusive);
    if (*fd < 0 && !exclusive && (errno == EROFS || errno == EACCES))
        return 1;
    if (*fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", file, g_strerror(errno));
    result = take(*fd, path, exclusive, err) < 0 ? -1 : has_name(*fd, file);
    if (result > 0)
        return 1;
    close(*fd);
    *fd = -1;
    return result;
}

int repo_lock(const char *path, bool exclusive, int *fd, GError **err)
{
    g_autofree char *file = g_build_filename(path, "lock", NULL);
    int result = 0;

    for (unsigned i = 0; i < ATTEMPTS && result == 0; i++)
        result = try_once(path, file, exclusive, fd, err);
    if (result == 0)
        client_fail(err, CLIENT_ERROR_FAILED, "%s: other processes make and remove it", file);
    return result > 0 ? 0 : -1;
}

void repo_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}
