/* SPDX-License-Identifier: BSD-3-Clause */
#include "plugins/lib/source.h"

#include "common/base/nbdkit-abi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- configuration ---- */

/* Take an inherited descriptor. Descriptors that this process has opened itself are closed on exec,
 * so a number that names one of these by mistake is found out. From now on this one is closed on
 * exec, too. */
static int take_descriptor(struct source *s, const char *key, const char *value)
{
    if (nbdkit_parse_int(key, value, &s->descriptor) < 0)
        return -1;
    if (s->descriptor <= STDERR_FILENO) {
        nbdkit_error("%s=%s: must be above %d", key, value, STDERR_FILENO);
        return -1;
    }
    int flags = fcntl(s->descriptor, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC)) {
        nbdkit_error("%s=%s: no open file was inherited by this number", key, value);
        return -1;
    }
    if (fcntl(s->descriptor, F_SETFD, FD_CLOEXEC) < 0) {
        nbdkit_error("%s=%s: %m", key, value);
        return -1;
    }
    return 0;
}

int source_config(struct source *s, const char *key, const char *value)
{
    static const struct {
        const char *key;
        enum source_kind kind;
        bool descriptor;
    } keys[] = {
        {"file", SOURCE_FILE, false},
        {"fd", SOURCE_DESCRIPTOR, true},
        {"dir", SOURCE_FOLDER, false},
        {"dirfd", SOURCE_FOLDER, true},
    };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(key, keys[i].key))
            continue;
        if (s->kind != SOURCE_NONE) {
            nbdkit_error("%s=%s: one of file=, fd=, dir= and dirfd= is given already", key, value);
            return -1;
        }
        s->kind = keys[i].kind;
        if (keys[i].descriptor)
            return take_descriptor(s, key, value) < 0 ? -1 : 1;
        s->path = nbdkit_absolute_path(value); /* the server may go to another folder */
        return s->path ? 1 : -1;
    }
    return 0;
}

static int check_folder(const struct source *s)
{
    struct stat st;
    int r = s->path ? stat(s->path, &st) : fstat(s->descriptor, &st);

    if (r == 0 && S_ISDIR(st.st_mode))
        return 0;
    if (r == 0)
        errno = ENOTDIR;
    if (s->path)
        nbdkit_error("dir=%s: %m", s->path);
    else
        nbdkit_error("dirfd=%d: %m", s->descriptor);
    return -1;
}

/* How it was opened is how it is served: that has to be good for any offset and length. */
static int check_descriptor(const struct source *s)
{
    int flags = fcntl(s->descriptor, F_GETFL);
    const char *wrong = flags < 0                         ? "is not open"
                        : flags & O_PATH                  ? "is open with O_PATH only"
                        : flags & O_APPEND                ? "is open for appending"
                        : flags & O_DIRECT                ? "is open with O_DIRECT: use direct=true"
                        : (flags & O_ACCMODE) == O_WRONLY ? "is not open for reading"
                                                          : NULL;

    if (!wrong)
        return 0;
    nbdkit_error("fd=%d: the descriptor %s", s->descriptor, wrong);
    return -1;
}

int source_check(const struct source *s)
{
    switch (s->kind) {
    case SOURCE_FILE:
        return 0;
    case SOURCE_DESCRIPTOR:
        return check_descriptor(s);
    case SOURCE_FOLDER:
        return check_folder(s);
    default:
        nbdkit_error("file=FILE is missing (or fd=N, dir=FOLDER, dirfd=N): which file or block "
                     "device?");
        return -1;
    }
}

void source_free(struct source *s)
{
    free(s->path);
    if (s->descriptor >= 0)
        close(s->descriptor);
    *s = (struct source)SOURCE_INIT;
}

/* ---- opening ---- */

/* A client's own words: a name in the folder, nothing that leads out of it. */
static bool is_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

char *source_label(const struct source *s, const char *name)
{
    char *label = NULL;
    int r;

    if (s->kind == SOURCE_FOLDER && !is_name(name)) {
        nbdkit_error("dir: the export's name chooses the file, and '%s' is no name that a file in "
                     "this folder can have",
                     name);
        return NULL;
    }
    if (s->kind == SOURCE_FILE)
        r = asprintf(&label, "%s", s->path);
    else if (s->kind == SOURCE_DESCRIPTOR)
        r = asprintf(&label, "fd=%d", s->descriptor);
    else if (s->path)
        r = asprintf(&label, "%s/%s", s->path, name);
    else
        r = asprintf(&label, "dirfd=%d/%s", s->descriptor, name);
    if (r >= 0)
        return label;
    nbdkit_error("open: %m");
    return NULL;
}

static bool is_served(const struct stat *st)
{
    return S_ISREG(st->st_mode) || S_ISBLK(st->st_mode);
}

/* A file of another kind is not opened: opening it may wait (a pipe), or do something (a tape). */
static int open_at(int folder, const char *path, int flags)
{
    struct stat st;

    if (fstatat(folder, path, &st, 0) == 0 && !is_served(&st)) {
        errno = ENOTSUP;
        return -1;
    }
    return folder == AT_FDCWD ? open(path, flags) : openat(folder, path, flags);
}

static int open_in_folder(const struct source *s, const char *name, int flags)
{
    int folder = s->descriptor;

    if (s->path)
        folder = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -1;
    int fd = open_at(folder, name, flags);
    int error = errno;
    if (s->path)
        close(folder);
    errno = error;
    return fd;
}

/* The inherited descriptor may permit more than its path would permit us. So it is duplicated where
 * that is enough, and its path opened only for O_DIRECT. */
static int open_descriptor(const struct source *s, int flags)
{
    char path[40];
    int mode = fcntl(s->descriptor, F_GETFL) & O_ACCMODE;

    if ((flags & O_ACCMODE) == O_RDWR && mode == O_RDONLY) {
        errno = EACCES;
        return -1;
    }
    if (!(flags & O_DIRECT))
        return fcntl(s->descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", s->descriptor);
    return open_at(AT_FDCWD, path, flags);
}

int source_open(const struct source *s, const char *name, int flags)
{
    return s->kind == SOURCE_FILE         ? open_at(AT_FDCWD, s->path, flags)
           : s->kind == SOURCE_DESCRIPTOR ? open_descriptor(s, flags)
                                          : open_in_folder(s, name, flags);
}

/* ---- listing ---- */

static DIR *open_folder(const struct source *s)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int fd = s->path ? open(s->path, flags) : openat(s->descriptor, ".", flags);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d && fd >= 0)
        close(fd);
    return d;
}

int source_list(const struct source *s, int (*tell)(void *opaque, const char *name), void *opaque)
{
    DIR *d = open_folder(s);
    struct dirent *entry;
    struct stat st;
    int r = 0;

    if (!d) {
        nbdkit_error("dir: list: %m");
        return -1;
    }
    while (r == 0 && (errno = 0, entry = readdir(d))) {
        if (fstatat(dirfd(d), entry->d_name, &st, 0) == 0 && is_served(&st))
            r = tell(opaque, entry->d_name);
    }
    if (r == 0 && errno) {
        nbdkit_error("dir: list: %m");
        r = -1;
    }
    closedir(d);
    return r;
}
