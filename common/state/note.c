/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file in /dev/shm is 16 bytes: NOTE_MAGIC, and a word that is 0 as long as nothing failed. It is
 * written with pwrite(2) and never mapped: so a signal handler can write it, and nobody can take the
 * memory from under it.
 */
#include "common/state/note.h"

#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE_MAGIC UINT64_C(0x2165746f4e44424e)

struct note {
    int fd;
    char *path;
};

struct note_words {
    uint64_t magic;
    uint64_t failed;
};

static const char *shm_folder = "/dev/shm", *lasting_folder = "/var/tmp";

void note_set_folders(const char *shm, const char *lasting)
{
    shm_folder = shm ? shm : "/dev/shm";
    lasting_folder = lasting ? lasting : "/var/tmp";
}

static char *note_path(const char *uuid)
{
    return g_strdup_printf("%s/nbdfleece-%s", shm_folder, uuid);
}

static char *lasting_path(const char *uuid)
{
    return g_strdup_printf("%s/nbdfleece-failed-%s", lasting_folder, uuid);
}

/* Open one of these files. It must be a regular file of ours or of root's: anybody may make files in
 * these folders. A negative errno: failed. */
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

static bool write_words(int fd, uint64_t failed)
{
    struct note_words words = {.magic = NOTE_MAGIC, .failed = failed};

    return pwrite(fd, &words, sizeof words, 0) == (ssize_t)sizeof words;
}

struct note *note_new(const char *uuid)
{
    g_autofree char *path = note_path(uuid);
    int fd = make_or_open(path);
    struct note *n;

    if (fd < 0 || !write_words(fd, 0)) {
        log_error("state: %s: %s: after a crash, bitmaps will count as after a power loss", path,
                  g_strerror(fd < 0 ? -fd : errno));
        if (fd >= 0)
            close(fd);
        (void)unlink(path); /* one that says more than is known */
        return NULL;
    }
    n = g_new0(struct note, 1);
    n->fd = fd;
    n->path = g_steal_pointer(&path);
    return n;
}

void note_failure(struct note *n)
{
    int error = errno;

    if (n && !write_words(n->fd, 1))
        (void)ftruncate(n->fd, 0); /* not healthy either */
    errno = error;
}

void note_settled(struct note *n)
{
    if (n)
        (void)write_words(n->fd, 0);
}

void note_free(struct note *n, bool keep)
{
    if (!n)
        return;
    if (!keep && unlink(n->path) < 0 && errno != ENOENT)
        log_error("state: %s: cannot remove it: %m", n->path);
    close(n->fd);
    g_free(n->path);
    g_free(n);
}

/* Read the note of a folder. False: there is none that counts. */
static bool read_words(const char *uuid, struct note_words *words)
{
    g_autofree char *path = note_path(uuid);
    int fd = open_ours(path, O_RDONLY);
    bool read;

    if (fd < 0)
        return false;
    read = pread(fd, words, sizeof *words, 0) == (ssize_t)sizeof *words;
    close(fd);
    return read && words->magic == NOTE_MAGIC;
}

bool state_note_healthy(const char *uuid)
{
    struct note_words words;

    return read_words(uuid, &words) && words.failed == 0;
}

/* That it is there says all: whoever may not read root's heeds it, too. */
static bool lasting_note_there(const char *uuid)
{
    g_autofree char *path = lasting_path(uuid);
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (st.st_uid == 0 || st.st_uid == geteuid());
}

bool state_note_failed(const char *uuid)
{
    struct note_words words;

    return (read_words(uuid, &words) && words.failed != 0) || lasting_note_there(uuid);
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
