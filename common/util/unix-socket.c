/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/unix-socket.h"

#include "common/util/error.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How often somebody may put another file into our way before we give up. */
#define MAX_ATTEMPTS 4

static int make_address(const char *path, struct sockaddr_un *address, GError **err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path[0] == '\0') /* the kernel would take it for an abstract name */
        return fail(err, "the name of a Unix socket is empty");
    if (strlen(path) >= sizeof address->sun_path)
        return fail(err, "%s: the name of a Unix socket has at most %zu bytes", path,
                    sizeof address->sun_path - 1);
    strcpy(address->sun_path, path);
    return 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Nobody listens on this socket: 0, or -1 and *err. */
static int check_stale(const struct sockaddr_un *address, GError **err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error;

    if (fd < 0)
        return fail_errno(err, errno, "%s: socket", address->sun_path);
    error = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    close(fd);
    if (error == ECONNREFUSED)
        return 0;
    if (error == 0 || error == EAGAIN) /* EAGAIN: its queue is full */
        return fail(err, "%s: another process listens on it", address->sun_path);
    return fail_errno(err, error, "%s: cannot tell whether it is in use", address->sun_path);
}

/* Remove what bind(2) has met, if it may be removed. 0 too where it has gone by itself. */
static int clear_way(const struct sockaddr_un *address, GError **err)
{
    const char *path = address->sun_path;
    struct stat found, now;

    if (lstat(path, &found) < 0)
        return errno == ENOENT ? 0 : fail_errno(err, errno, "%s", path);
    if (!S_ISSOCK(found.st_mode))
        return fail(err, "%s: a file of that name is there already", path);
    if (check_stale(address, err) < 0)
        return -1;
    if (lstat(path, &now) < 0 || !is_same_file(&found, &now))
        return 0; /* somebody else was faster: look again */
    if (unlink(path) < 0 && errno != ENOENT)
        return fail_errno(err, errno, "%s: remove the old socket", path);
    return 0;
}

static int bind_in_place(int fd, const struct sockaddr_un *address, GError **err)
{
    for (unsigned i = 0; i < MAX_ATTEMPTS; i++) {
        if (bind(fd, (const struct sockaddr *)address, sizeof *address) == 0)
            return 0;
        if (errno != EADDRINUSE)
            return fail_errno(err, errno, "%s", address->sun_path);
        if (clear_way(address, err) < 0)
            return -1;
    }
    return fail(err, "%s: others make sockets of that name", address->sun_path);
}

int unix_socket_listen(int fd, const char *path, int backlog, struct stat *file, GError **err)
{
    struct sockaddr_un address;
    struct stat st;

    if (make_address(path, &address, err) < 0 || bind_in_place(fd, &address, err) < 0)
        return -1;
    if (lstat(path, &st) < 0 || listen(fd, backlog) < 0) {
        fail_errno(err, errno, "%s", path);
        unlink(path);
        return -1;
    }
    if (file)
        *file = st;
    return 0;
}

int unix_socket_remove(const char *path, const struct stat *file, GError **err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : fail_errno(err, errno, "%s", path);
    if (!is_same_file(&st, file))
        return 0;
    if (unlink(path) < 0 && errno != ENOENT)
        return fail_errno(err, errno, "cannot remove %s", path);
    return 0;
}
