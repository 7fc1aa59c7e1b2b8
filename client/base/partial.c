/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who has the lock of the file that is called NAME.partial owns the name. A lock alone does not say
 * so: between open(2) and flock(2) of one process another one may commit the file, which then is
 * NAME, or remove it. So after the lock it is looked whether the name still leads to that file.
 *
 * A file that is left is never emptied, but removed, and a new one is made: its mode, owner and
 * links are nobody's legacy.
 */
#include "client/base/partial.h"
#include "client/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Times that another process may be quicker. */
#define ATTEMPTS 100

struct partial {
    char *path, *partial;
    int fd;
    bool replace;
    bool gone; /* the name is not ours any more */
};

static int partial_fail(GError **err, const char *path, const char *what, int error)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s: %s", path, what, g_strerror(error));
}

/* ---- opening ---- */

/* Is the file behind fd still the one of that name? 1, 0, or -1 and *err. */
static int has_name(int fd, const char *path, GError **err)
{
    struct stat file, name;

    if (fstat(fd, &file) < 0)
        return partial_fail(err, path, "stat", errno);
    if (lstat(path, &name) < 0)
        return errno == ENOENT ? 0 : partial_fail(err, path, "stat", errno);
    if (!S_ISREG(file.st_mode))
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it is no regular file", path);
    return file.st_dev == name.st_dev && file.st_ino == name.st_ino;
}

/* Lock what has been opened: 1; 0: it has another name by now; -1 and *err. */
static int own(int fd, const char *path, GError **err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return partial_fail(err, path, "lock", errno);
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: another process is writing it", path);
    }
    return has_name(fd, path, err);
}

/* Open what is there, and own it: its descriptor; -2: there is none, or it has gone; -1 and
 * *err. */
static int open_left(const char *path, GError **err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int owned;

    if (fd < 0)
        return errno == ENOENT ? -2 : partial_fail(err, path, "open", errno);
    owned = own(fd, path, err);
    if (owned > 0)
        return fd;
    close(fd);
    return owned == 0 ? -2 : -1;
}

/* Make a new one, and own it; as open_left(). */
static int open_new(const char *path, GError **err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int owned;

    if (fd < 0)
        return errno == EEXIST ? -2 : partial_fail(err, path, "create", errno);
    owned = own(fd, path, err);
    if (owned > 0)
        return fd;
    close(fd);
    return owned == 0 ? -2 : -1;
}

/* Remove what is left of an earlier run. */
static int remove_left(const char *path, GError **err)
{
    int fd = open_left(path, err);
    int result = 0;

    if (fd == -1)
        return -1;
    if (fd < 0)
        return 0;
    if (unlink(path) < 0)
        result = partial_fail(err, path, "remove", errno);
    close(fd);
    return result;
}

static int open_anew(const char *path, GError **err)
{
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        int fd = open_new(path, err);

        if (fd != -2)
            return fd;
        if (remove_left(path, err) < 0)
            return -1;
    }
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: other processes make and remove it", path);
}

static int check_absent(const char *path, GError **err)
{
    struct stat st;

    if (lstat(path, &st) == 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it exists", path);
    return errno == ENOENT ? 0 : partial_fail(err, path, "stat", errno);
}

static struct partial *make(const char *path, bool replace, int (*opener)(const char *, GError **),
                            GError **err)
{
    struct partial *p;

    if (!replace && check_absent(path, err) < 0)
        return NULL;
    p = g_new(struct partial, 1);
    *p = (struct partial){
        .path = g_strdup(path), .partial = g_strconcat(path, ".partial", NULL), .replace = replace};
    p->fd = opener(p->partial, err);
    if (p->fd >= 0)
        return p;
    if (p->fd == -2)
        client_fail(err, CLIENT_ERROR_FAILED, "%s: it is not there", p->partial);
    p->gone = true;
    partial_free(p);
    return NULL;
}

struct partial *partial_new(const char *path, bool replace, GError **err)
{
    return make(path, replace, open_anew, err);
}

struct partial *partial_again(const char *path, bool replace, GError **err)
{
    return make(path, replace, open_left, err);
}

int partial_fd(const struct partial *p)
{
    return p->fd;
}

const char *partial_path(const struct partial *p)
{
    return p->partial;
}

/* ---- its end ---- */

int partial_sync_folder(const char *path, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = 0;

    if (fd < 0)
        return partial_fail(err, folder, "open", errno);
    if (fsync(fd) < 0)
        error = errno;
    close(fd);
    return error == 0 ? 0 : partial_fail(err, folder, "fsync", error);
}

/* Give it its name, where nothing has it: 0, or an errno value. */
static int name_new(const struct partial *p)
{
    if (renameat2(AT_FDCWD, p->partial, AT_FDCWD, p->path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return errno;
    /* A file system that cannot do that, such as NFS, may have links. */
    if (link(p->partial, p->path) < 0)
        return errno;
    return unlink(p->partial) < 0 ? errno : 0;
}

int partial_name(struct partial *p, GError **err)
{
    int error;

    if (fsync(p->fd) < 0)
        return partial_fail(err, p->partial, "fsync", errno);
    if (p->replace)
        error = rename(p->partial, p->path) < 0 ? errno : 0;
    else
        error = name_new(p);
    if (error != 0)
        return partial_fail(err, p->path, "name the file", error);
    p->gone = true;
    return 0;
}

int partial_commit(struct partial *p, GError **err)
{
    if (partial_name(p, err) < 0)
        return -1;
    if (partial_sync_folder(p->path, err) < 0) {
        g_prefix_error(err, "%s is whole, but may not have its name after a power cut: ", p->path);
        return -1;
    }
    return 0;
}

bool partial_named(const struct partial *p)
{
    return p->gone;
}

void partial_keep(struct partial *p)
{
    p->gone = true;
    partial_free(p);
}

void partial_free(struct partial *p)
{
    if (!p)
        return;
    /* Removed first, then unlocked: after that it may be another's. */
    if (!p->gone)
        unlink(p->partial);
    if (p->fd >= 0)
        close(p->fd);
    g_free(p->path);
    g_free(p->partial);
    g_free(p);
}
