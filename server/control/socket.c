/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/socket.h"
#include "common/util/error.h"
#include "common/util/unix-socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_BACKLOG 64

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

int control_socket_open(const char *path, struct stat *file, GError **err)
{
    int fd;

    if (check_folder(path, err) < 0)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail_errno(err, errno, "control socket %s: socket", path);
    /* Linux makes the file with the mode of the socket, so there is no moment in which it could be
     * opened by others; chmod undoes what the umask may have taken from us. */
    if (fchmod(fd, S_IRUSR | S_IWUSR) < 0) {
        fail_errno(err, errno, "control socket %s", path);
        close(fd);
        return -1;
    }
    if (unix_socket_listen(fd, path, CONTROL_BACKLOG, file, err) < 0) {
        g_prefix_error(err, "control socket ");
        close(fd);
        return -1;
    }
    if (chmod(path, S_IRUSR | S_IWUSR) < 0) {
        fail_errno(err, errno, "control socket %s", path);
        unix_socket_remove(path, file, NULL);
        close(fd);
        return -1;
    }
    return fd;
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
