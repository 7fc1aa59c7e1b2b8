/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/note.h"

#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *lasting_folder = "/var/tmp";

void lasting_note_set_folder(const char *folder)
{
    lasting_folder = folder ? folder : "/var/tmp";
}

static char *lasting_path(const char *uuid)
{
    return g_strdup_printf("%s/nbdfleece-failed-%s", lasting_folder, uuid);
}

/* Open such a file. It must be a regular file of ours or of root's: anybody may make files in the
 * folder. A negative errno: failed. */
static int open_ours(const char *path, int flags)
{
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600), error = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        error = errno;
    else if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()))
        error = EPERM;
    if (!error)
        return fd;
    close(fd);
    return -error;
}

/* Where a file is there already, it is opened without O_CREAT: the kernel may refuse that flag for
 * other people's files in such folders (fs.protected_regular in proc_sys_fs(5)). */
static int make_or_open(const char *path)
{
    int fd = open_ours(path, O_RDWR | O_CREAT | O_EXCL);

    return fd == -EEXIST ? open_ours(path, O_RDWR) : fd;
}

/* That it is there says all: whoever may not read root's heeds it, too. */
bool lasting_note_there(const char *uuid)
{
    g_autofree char *path = lasting_path(uuid);
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (st.st_uid == 0 || st.st_uid == geteuid());
}

static int sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        error = -errno;
    close(fd);
    return error;
}

static int write_text(int fd, const char *text)
{
    size_t length = strlen(text);
    ssize_t written = write(fd, text, length);

    if (written != (ssize_t)length)
        return written < 0 ? -errno : -ENOSPC;
    return fsync(fd) < 0 ? -errno : 0;
}

int lasting_note_make(const char *uuid, const char *path, const char *reason, GError **err)
{
    g_autofree char *note = lasting_path(uuid);
    g_autofree char *text = g_strdup_printf("The state folder %s of nbdfleece failed: %s\n"
                                            "Its next user takes note of that and removes this "
                                            "file.\n",
                                            path, reason);
    int fd = make_or_open(note), error;

    if (fd < 0)
        return fail_errno(err, fd, "%s", note);
    error = write_text(fd, text);
    close(fd);
    if (!error)
        error = sync_folder(lasting_folder);
    return error ? fail_errno(err, error, "%s", note) : 0;
}

void lasting_note_remove(const char *uuid)
{
    g_autofree char *path = lasting_path(uuid);

    if (unlink(path) == 0)
        (void)sync_folder(lasting_folder);
    else if (errno != ENOENT)
        log_error("state: %s: cannot remove it: %m", path);
}
