/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/scratch-file.h"

#include "common/state/folder.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/scratch-pool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS (O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)

/* Who was killed while a system call of it waits for the file system has it locked until that returns. */
#define LOCK_USEC      (10 * G_USEC_PER_SEC)
#define LOCK_LOOK_USEC (G_USEC_PER_SEC / 100)

int scratch_file_unlinked(const char *dir, GError **err)
{
    g_autofree char *path = NULL;
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) {
        if (fd < 0)
            fail_errno(err, errno, "scratch: %s", dir);
        return fd;
    }
    path = g_build_filename(dir, STATE_SCRATCH_PREFIX "XXXXXX", NULL);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, errno, "scratch: %s", dir);
    unlink(path);
    return fd;
}

/* ---- with a name ---- */

static char *prefix_of(const char *folder)
{
    return g_strconcat(STATE_SCRATCH_PREFIX, folder, "-", NULL);
}

static int lock(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB);
}

/* Note which one it is. */
static int note_file(int fd, const char *path, struct lasting_scratch *head, GError **err)
{
    struct stat st;

    if (strlen(path) >= sizeof head->path)
        return fail_errno(err, ENAMETOOLONG, "scratch: %s", path);
    if (lock(fd) < 0 || fstat(fd, &st) < 0)
        return fail_errno(err, errno, "scratch: %s", path);
    head->device = st.st_dev;
    head->inode = st.st_ino;
    g_strlcpy(head->path, path, sizeof head->path);
    return 0;
}

int scratch_file_named(const char *dir, const char *folder, struct lasting *file, GError **err)
{
    g_autofree char *prefix = prefix_of(folder), *name = g_strconcat(prefix, file->id, NULL);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = open(path, FLAGS | O_CREAT | O_EXCL, 0600);

    if (fd < 0)
        return fail_errno(err, errno, "scratch: %s", dir);
    if (note_file(fd, path, &file->head->scratch, err) == 0)
        return fd;
    unlink(path);
    close(fd);
    return -1;
}

static bool is_it(const struct stat *st, const struct lasting_scratch *head)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && st->st_dev == head->device &&
           st->st_ino == head->inode;
}

static int lock_in_time(struct scratch_pool *p, int fd)
{
    while (lock(fd) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -1;
        if (p->lock_until == 0)
            p->lock_until = g_get_monotonic_time() + LOCK_USEC;
        if (g_get_monotonic_time() >= p->lock_until)
            return -1;
        g_usleep(LOCK_LOOK_USEC);
    }
    return 0;
}

static int check_file(struct scratch_pool *p, int fd, const struct lasting_scratch *head,
                      GError **err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return fail_errno(err, errno, "scratch: %s", head->path);
    if (!is_it(&st, head))
        return fail(err, "scratch: %s: it is another file", head->path);
    if (lock_in_time(p, fd) < 0)
        return errno == EWOULDBLOCK ? fail(err, "scratch: %s: its server has not ended", head->path)
                                    : fail_errno(err, errno, "scratch: %s", head->path);
    return 0;
}

int scratch_file_open(struct scratch_pool *p, const struct lasting *file, GError **err)
{
    const struct lasting_scratch *head = &file->head->scratch;
    int fd;

    if (!memchr(head->path, '\0', sizeof head->path))
        return fail(err, "scratch: its path is damaged");
    fd = open(head->path, FLAGS);
    if (fd < 0)
        return fail_errno(err, errno, "scratch: %s", head->path);
    if (check_file(p, fd, head, err) == 0)
        return fd;
    close(fd);
    return -1;
}

/* ---- removing it ---- */

static bool remove_path(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return true;
    log_error("scratch: %s: cannot remove it: %m", path);
    return false;
}

void scratch_file_remove(const struct lasting *file, int fd)
{
    const char *path = file->head->scratch.path;
    struct stat named, ours;

    if (lasting_is_lost(file)) {
        log_error(
            "scratch: its file cannot be found: what is in memory of it was cut short. The next "
            "start looks for it");
        return;
    }
    if (lstat(path, &named) < 0 || fstat(fd, &ours) < 0) {
        if (errno != ENOENT)
            log_error("scratch: %s: cannot remove it: %m", path);
        return;
    }
    if (named.st_dev == ours.st_dev && named.st_ino == ours.st_ino)
        (void)remove_path(path);
}

static bool remove_if_free(int fd, const struct lasting_scratch *head)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !is_it(&st, head))
        return true;
    if (lock(fd) == 0)
        return remove_path(head->path);
    if (errno == EWOULDBLOCK)
        log_info("scratch: %s: it stays for now, its server has not ended", head->path);
    else
        log_error("scratch: %s: it stays for now: %m", head->path);
    return false;
}

bool scratch_file_remove_left(const struct lasting_scratch *head)
{
    bool removed;
    int fd;

    if (!memchr(head->path, '\0', sizeof head->path))
        return true;
    fd = open(head->path, FLAGS);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return true;
    if (fd < 0) {
        log_error("scratch: %s: it stays for now: %m", head->path);
        return false;
    }
    removed = remove_if_free(fd, head);
    close(fd);
    return removed;
}

/* ---- what is left of others ---- */

static bool is_any(const char *id, const GPtrArray *ids)
{
    for (unsigned i = 0; i < ids->len; i++)
        if (strcmp(id, ids->pdata[i]) == 0)
            return true;
    return false;
}

static void sweep(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = open(path, FLAGS);

    if (fd < 0)
        return;
    if (lock(fd) == 0 && remove_path(path))
        log_info("scratch: %s: removed: its server has ended, and no session has it", path);
    close(fd);
}

void scratch_files_sweep(const char *dir, const char *folder, const GPtrArray *ids)
{
    g_autofree char *prefix = prefix_of(folder);
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d)))
        if (g_str_has_prefix(name, prefix) && !is_any(name + strlen(prefix), ids))
            sweep(dir, name);
    if (d)
        g_dir_close(d);
}
