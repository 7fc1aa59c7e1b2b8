/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/folder.h"

#include "common/base/file-io.h"
#include "common/state/storage-dir.h"
#include "common/util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK "lock"

static int open_folder(const char *path)
{
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOCTTY);
}

/* The name of a new folder has to survive a power loss, as what is in it does. */
static int sync_parent(const char *path, GError **err)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int fd = open_folder(parent), error;

    if (fd < 0)
        return fail_errno(err, errno, "state: %s: open", parent);
    error = fsync(fd) < 0 ? errno : 0;
    close(fd);
    return error == 0 ? 0 : fail_errno(err, error, "state: %s: fsync", parent);
}

/* The descriptor of the new folder. */
static int make_folder(const char *path, GError **err)
{
    int fd;

    /* The umask may take some of the mode away. A folder that somebody else made meanwhile is
     * theirs: check_owner judges it. */
    if (mkdir(path, 0700) == 0 ? chmod(path, 0700) < 0 : errno != EEXIST)
        return fail_errno(err, errno, "state: %s: cannot be made", path);
    if (sync_parent(path, err) < 0)
        return -1;
    fd = open_folder(path);
    return fd < 0 ? fail_errno(err, errno, "state: %s", path) : fd;
}

static int find_folder(const char *path, bool create, GError **err)
{
    int fd = open_folder(path);

    if (fd >= 0)
        return fd;
    if (errno == ENOENT && create)
        return make_folder(path, err);
    if (errno == ENOENT)
        return fail(err, "state: %s: there is no such folder", path);
    if (errno == ENOTDIR)
        return fail(err, "state: %s: this is no folder", path);
    return fail_errno(err, errno, "state: %s", path);
}

/* Root is refused, too: the files that it made would belong to root, and lock out the server that
 * runs as the folder's owner. */
static int check_owner(int fd, const char *path, GError **err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return fail_errno(err, errno, "state: %s: stat", path);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return fail(err,
                    "state: %s: it belongs to uid %ju, and this is uid %ju: run it as that user",
                    path, (uintmax_t)st.st_uid, (uintmax_t)geteuid());
    if (st.st_mode & 022)
        return fail(err, "state: %s: others can write to it (mode %04o): chmod go-w %s", path,
                    (unsigned)(st.st_mode & 07777), path);
    return 0;
}

static int open_lock(int folder, const char *path, GError **err)
{
    int fd = openat(folder, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
                    0600);
    struct stat st;

    if (fd < 0 && (errno == EROFS || errno == EACCES || errno == EPERM))
        return fail_errno(err, errno, "state: %s: it cannot be written to", path);
    if (fd < 0)
        return fail_errno(err, errno, "state: %s/" LOCK, path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return fail(err, "state: %s/" LOCK ": this is no file", path);
}

/* The message for a folder that is locked. Its user writes its pid into the file just after it has
 * got the lock, so a pid that does not exist is the one of the user before. */
static int fail_in_use(int lock, const char *path, GError **err)
{
    char text[24] = "";
    ssize_t n = pread(lock, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;

    if (pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM))
        return fail(err, "state: %s: in use by process %ld", path, pid);
    return fail(err, "state: %s: in use by another process", path);
}

static int take_lock(int lock, const char *path, GError **err)
{
    char text[24];
    int length;

    while (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return fail_in_use(lock, path, err);
        if (errno != EINTR)
            return fail_errno(err, errno, "state: %s/" LOCK ": flock", path);
    }
    /* The pid is only for the message of somebody else: a full disk does not matter here. */
    length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(lock, 0) == 0 && pwrite_all(lock, text, (size_t)length, 0) < 0)
        (void)!ftruncate(lock, 0);
    return 0;
}

/* The locked file's descriptor. */
static int lock_folder(int folder, const char *path, GError **err)
{
    int lock = open_lock(folder, path, err);

    if (lock < 0)
        return -1;
    if (take_lock(lock, path, err) == 0)
        return lock;
    close(lock);
    return -1;
}

struct storage *state_folder_open(const char *path, bool create, GError **err)
{
    int folder = find_folder(path, create, err), lock;
    struct storage *s;

    if (folder < 0)
        return NULL;
    lock = check_owner(folder, path, err) < 0 ? -1 : lock_folder(folder, path, err);
    if (lock < 0) {
        close(folder);
        return NULL;
    }
    s = storage_dir_new(path, folder);
    storage_dir_hold(s, lock);
    return s;
}

/* The first line of a file, at most `max` bytes; "" where there is none that fits. */
static char *read_line(const char *path, size_t max)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return g_strdup("");
    text[strcspn(text, "\n")] = '\0';
    g_strstrip(text);
    return strlen(text) <= max && g_utf8_validate(text, -1, NULL) ? g_steal_pointer(&text)
                                                                  : g_strdup("");
}

char *state_boot_id(void)
{
    return read_line("/proc/sys/kernel/random/boot_id", 36);
}

char *state_machine_id(void)
{
    return read_line("/etc/machine-id", 63);
}

uint64_t state_folder_number(const char *uuid)
{
    uint64_t number = 0;

    for (unsigned digits = 0; *uuid && digits < 16; uuid++)
        if (g_ascii_isxdigit(*uuid)) {
            number = number << 4 | (unsigned)g_ascii_xdigit_value(*uuid);
            digits++;
        }
    return number;
}
