/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/socket.h"
#include "common/util/error.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int check_folder(const char *path, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(path);
    struct stat st;

    if (stat(folder, &st) < 0)
        return fail_errno(err, errno, "control socket %s: folder %s", path, folder);
    if (!S_ISDIR(st.st_mode))
        return fail(err, "control socket %s: %s is not a folder", path, folder);
    if ((st.st_mode & S_IWOTH) && !((st.st_mode & S_ISVTX) && st.st_uid == geteuid()))
        return fail(err,
                    "control socket %s: everybody may write into the folder %s; use one of your "
                    "own",
                    path, folder);
    return 0;
}

/* Does anybody listen there? A connection that is refused is the only sure "no". */
static int check_stale(const char *path, const struct sockaddr_un *address, GError **err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error;

    if (fd < 0)
        return fail_errno(err, errno, "control socket %s: socket", path);
    error = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    close(fd);
    if (error == ECONNREFUSED)
        return 0;
    if (error == 0 || error == EAGAIN)
        return fail(err, "control socket %s: another process listens on it", path);
    return fail_errno(err, error, "control socket %s: cannot tell whether it is in use", path);
}

static int clear_way(const char *path, const struct sockaddr_un *address, GError **err)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        if (errno == ENOENT)
            return 0;
        return fail_errno(err, errno, "control socket %s", path);
    }
    if (!S_ISSOCK(st.st_mode))
        return fail(err, "control socket %s: a file of that name is there already", path);
    if (check_stale(path, address, err) < 0)
        return -1;
    if (unlink(path) < 0 && errno != ENOENT)
        return fail_errno(err, errno, "control socket %s: remove the old one", path);
    return 0;
}

int control_socket_open(const char *path, struct stat *file, GError **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return fail(err, "control socket '%s': a path has 1 to %zu bytes", path,
                    sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path));
    if (check_folder(path, err) < 0 || clear_way(path, &address, err) < 0)
        return -1;

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail_errno(err, errno, "control socket %s: socket", path);
    /* Linux makes the file with the mode of the socket, so there is no moment in which it could be
     * opened by others; chmod undoes what the umask may have taken from us. */
    if (fchmod(fd, S_IRUSR | S_IWUSR) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail_errno(err, errno, "control socket %s", path);
        close(fd);
        return -1;
    }
    if (chmod(path, S_IRUSR | S_IWUSR) < 0 || lstat(path, file) < 0 || listen(fd, 64) < 0) {
        fail_errno(err, errno, "control socket %s", path);
        unlink(path);
        close(fd);
        return -1;
    }
    return fd;
}

void control_socket_remove(const char *path, const struct stat *file)
{
    struct stat st;

    if (lstat(path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino)
        unlink(path);
}

bool control_socket_may(int fd, GError **err)
{
    struct ucred peer;
    socklen_t length = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
        fail_errno(err, errno, "control: who is the peer?");
        return false;
    }
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    fail(err, "control: user %u (process %d) is not root nor ours: refused", (unsigned)peer.uid,
         (int)peer.pid);
    return false;
}
