/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and saving. What keeps a repository whole:
 *
 * - manifest.json is only ever replaced, by a file that is whole and durable: a reader finds the old
 *   one or the new one, and so does a start after a crash at any moment.
 * - Before that, what was there is kept as manifest.json.old: for the case that the disk damages
 *   one of them. Nothing reads it but people.
 * - Neither of the two names a file that is removed: before that, the old one becomes as the new one.
 * - What is written is first read again by the same rules, so that no mistake of a caller makes a
 *   repository that nothing opens.
 */
#include "client/repo/repository.h"
#include "client/base/error.h"
#include "client/base/partial.h"
#include "client/base/replace-file.h"
#include "client/repo/manifest-read.h"
#include "client/repo/manifest-write.h"
#include "client/repo/repo-lock.h"
#include "client/repo/repo-time.h"
#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST     "manifest.json"
#define MANIFEST_OLD "manifest.json.old"
/* More than any manifest has. */
#define MANIFEST_MAX (256 << 20)

struct repository_files {
    enum repo_access access;
    int lock;      /* -1: none */
    GString *text; /* of the manifest, as it is in the folder; NULL: there is none yet */
    /* What this opening has made: the repository, its folder, its lock. */
    bool made, made_folder, made_lock;
};

/* ---- making and freeing ---- */

static struct repository *repository_new(const char *path)
{
    struct repository *r = g_new0(struct repository, 1);
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        length--;
    r->path = g_strndup(path, length);
    r->members = g_ptr_array_new_with_free_func((GDestroyNotify)repo_member_free);
    r->files = g_new0(struct repository_files, 1);
    r->files->lock = -1;
    return r;
}

void repository_close(struct repository *r)
{
    if (!r)
        return;
    repo_unlock(r->files->lock);
    if (r->files->text)
        g_string_free(r->files->text, TRUE);
    g_free(r->files);
    g_ptr_array_unref(r->members);
    g_free(r->uuid);
    g_free(r->path);
    g_free(r);
}

/* ---- files ---- */

static GString *read_whole(int fd, gsize length, const char *path, GError **err)
{
    GString *text = g_string_sized_new(length);
    int error;

    g_string_set_size(text, length);
    error = pread_all(fd, text->str, length, 0);
    if (error == 0)
        return text;
    g_string_free(text, TRUE);
    client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", path, g_strerror(-error));
    return NULL;
}

/* A file at the top of the repository. NULL and *err; *missing says whether it is not there. */
static GString *read_file(const struct repository *r, const char *name, bool *missing, GError **err)
{
    g_autofree char *path = repo_path(r, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    GString *text = NULL;
    struct stat st;

    *missing = fd < 0 && errno == ENOENT;
    if (fd < 0) {
        client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
        return NULL;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MANIFEST_MAX)
        client_fail(err, CLIENT_ERROR_FAILED, "%s: this is no manifest", path);
    else
        text = read_whole(fd, (gsize)st.st_size, path, err);
    close(fd);
    return text;
}

static int write_file(const struct repository *r, const char *name, const GString *text,
                      GError **err)
{
    g_autofree char *path = repo_path(r, name);

    return replace_file(path, text->str, text->len, err);
}

/* ---- saving ---- */

static int by_name(gconstpointer a, gconstpointer b)
{
    const struct repo_disk *const *x = a, *const *y = b;

    return strcmp((*x)->disk, (*y)->disk);
}

static GString *make_text(struct repository *r, GError **err)
{
    g_autoptr(repository) check = repository_new(r->path);
    GString *text;

    for (guint i = 0; i < r->members->len; i++) {
        struct repo_member *m = r->members->pdata[i];

        g_ptr_array_sort(m->disks, by_name);
    }
    text = manifest_write(r);
    if (manifest_read(check, text->str, text->len, err) == 0)
        return text;
    g_prefix_error(err, "%s: the manifest was not written, because it would be wrong: ", r->path);
    g_string_free(text, TRUE);
    return NULL;
}

/* The manifest that is there becomes manifest.json.old, too: it is durable already, and its new name becomes so with
 * that of the next one. */
static int keep_old(const struct repository *r, GError **err)
{
    g_autofree char *now = repo_path(r, MANIFEST), *old = repo_path(r, MANIFEST_OLD);
    g_autofree char *partial = g_strconcat(old, ".partial", NULL);
    struct stat a, b;

    if (stat(now, &a) == 0 && lstat(old, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return 0;               /* a save was cut between the two names */
    if (link(now, partial) < 0) /* it is left of a run that was cut, or there are no links here */
        return write_file(r, MANIFEST_OLD, r->files->text, err);
    if (rename(partial, old) == 0)
        return 0;
    client_fail(err, CLIENT_ERROR_FAILED, "%s: name the file: %s", old, g_strerror(errno));
    unlink(partial);
    return -1;
}

/* A save has failed. Where its manifest has got the name all the same, but perhaps not durably, put
 * back the one before: callers remove the files of members that were not saved. */
static void put_back(struct repository *r, const GString *text, GError **err)
{
    g_autoptr(GString) now = NULL;
    GError *error = NULL;
    bool missing;

    now = read_file(r, MANIFEST, &missing, NULL);
    r->unsure = !now && !missing;
    if (!r->files->text || !now || !g_string_equal(now, text))
        return;
    if (write_file(r, MANIFEST, r->files->text, &error) == 0)
        return;
    r->unsure = true;
    g_prefix_error(err,
                   "the manifest before it could not be put back, so that it may be one or the "
                   "other (%s): ",
                   error->message);
    g_error_free(error);
}

int repository_save(struct repository *r, GError **err)
{
    struct repository_files *f = r->files;
    GString *text;

    if (f->access != REPO_WRITE && f->access != REPO_CREATE)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it is open for reading only", r->path);
    text = make_text(r, err);
    if (!text)
        return -1;
    if ((f->text && keep_old(r, err) < 0) || write_file(r, MANIFEST, text, err) < 0) {
        put_back(r, text, err);
        g_string_free(text, TRUE);
        return -1;
    }
    if (f->text)
        g_string_free(f->text, TRUE);
    f->text = text;
    r->unsure = false;
    return 0;
}

int repository_forget_old(struct repository *r, GError **err)
{
    if (r->unsure)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: no files are removed, because the manifest could not be written",
                           r->path);
    if (write_file(r, MANIFEST_OLD, r->files->text, err) == 0)
        return 0;
    g_prefix_error(err, "no files are removed, because " MANIFEST_OLD " may name them: ");
    return -1;
}

/* ---- opening ---- */

static int make_folder(const struct repository *r, GError **err)
{
    if (mkdir(r->path, 0777) == 0) {
        r->files->made_folder = true;
        return partial_sync_folder(r->path, err);
    }
    return errno == EEXIST
               ? 0
               : client_fail(err, CLIENT_ERROR_FAILED, "%s: cannot make this folder: %s", r->path,
                             g_strerror(errno));
}

static int check_folder(const char *path, GError **err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
    return S_ISDIR(st.st_mode) ? 0 : client_fail(err, CLIENT_ERROR_FAILED, "%s is no folder", path);
}

/* What a making of a repository that was cut can have left. */
static bool is_of_making(const char *name)
{
    return strcmp(name, "lock") == 0 || strcmp(name, MANIFEST ".partial") == 0 ||
           strcmp(name, "lost+found") == 0;
}

static int check_empty(const char *path, GError **err)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, err);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (!is_of_making(name))
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "%s is no repository, because there is no " MANIFEST
                               " in it, and it is not empty: %s is there",
                               path, name);
    }
    return dir ? 0 : -1;
}

static int make_new(struct repository *r, GError **err)
{
    if (check_empty(r->path, err) < 0)
        return -1;
    r->uuid = g_uuid_string_random();
    r->created = g_get_real_time();
    r->files->made = true;
    return repository_save(r, err);
}

/* What to say of the manifest before one that cannot be used. */
static char *describe_old(const struct repository *r)
{
    g_autoptr(repository) old = repository_new(r->path);
    const struct repo_member *newest;
    g_autoptr(GString) text = NULL;
    g_autofree char *time = NULL;
    bool missing;

    text = read_file(r, MANIFEST_OLD, &missing, NULL);
    if (!text)
        return g_strdup("");
    if (manifest_read(old, text->str, text->len, NULL) < 0)
        return g_strdup("; " MANIFEST_OLD " cannot be used either");
    newest = repository_newest(old, NULL);
    if (!newest)
        return g_strdup("; " MANIFEST_OLD " is sound, and has no members");
    time = repo_time_text(newest->time);
    return g_strdup_printf("; " MANIFEST_OLD " is sound, and its newest member is %" PRId64
                           ", of %s: see nbdfleece-repository(5)",
                           newest->id, time);
}

static int fail_missing(const struct repository *r, GError **err)
{
    g_autofree char *old = describe_old(r);

    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s is no repository: there is no " MANIFEST " in it%s", r->path, old);
}

static int read_manifest(struct repository *r, GError **err)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *old = NULL;
    bool missing;

    r->files->text = read_file(r, MANIFEST, &missing, &error);
    if (missing && r->files->access == REPO_CREATE)
        return make_new(r, err);
    if (r->files->text && manifest_read(r, r->files->text->str, r->files->text->len, &error) == 0)
        return 0;
    if (missing)
        return fail_missing(r, err);
    old = describe_old(r);
    if (!r->files->text)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s%s", error->message, old);
    return client_fail(err, CLIENT_ERROR_FAILED, "%s/" MANIFEST ": %s%s", r->path, error->message,
                       old);
}

static bool is_there(const struct repository *r, const char *name)
{
    g_autofree char *path = repo_path(r, name);
    struct stat st;

    return lstat(path, &st) == 0 || errno != ENOENT;
}

/* A folder that is none of ours does not even get a lock. */
static int check_ours(const struct repository *r, GError **err)
{
    GError *error = NULL;

    if (is_there(r, MANIFEST))
        return 0;
    if (r->files->access != REPO_CREATE)
        return fail_missing(r, err);
    if (check_empty(r->path, &error) == 0)
        return 0;
    if (is_there(r, MANIFEST)) { /* somebody has just made it */
        g_error_free(error);
        return 0;
    }
    g_propagate_error(err, error);
    return -1;
}

static int open_folder(struct repository *r, enum repo_access access, GError **err)
{
    bool exclusive = access == REPO_WRITE || access == REPO_CREATE;

    r->files->access = access;
    if (access == REPO_CREATE && make_folder(r, err) < 0)
        return -1;
    if (check_folder(r->path, err) < 0 || check_ours(r, err) < 0)
        return -1;
    r->files->made_lock = !is_there(r, "lock");
    if (access != REPO_LOOK && repo_lock(r->path, exclusive, &r->files->lock, err) < 0)
        return -1;
    return read_manifest(r, err);
}

struct repository *repository_open(const char *path, enum repo_access access, GError **err)
{
    struct repository *r = repository_new(path);

    if (open_folder(r, access, err) == 0)
        return r;
    repository_unmake(r);
    repository_close(r);
    return NULL;
}

/* Is nothing in the folder but what a repository without members has? */
static bool is_as_made(const struct repository *r)
{
    g_autoptr(GDir) dir = g_dir_open(r->path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (!is_of_making(name) && strcmp(name, MANIFEST) != 0 && strcmp(name, MANIFEST_OLD) != 0)
            return false;
    }
    return dir != NULL;
}

/* False: it is there, and stays. */
static bool remove_own(const struct repository *r, const char *name)
{
    g_autofree char *path = repo_path(r, name);

    return unlink(path) == 0 || errno == ENOENT;
}

void repository_unmake(struct repository *r)
{
    const struct repository_files *f = r->files;

    /* The lock is the last to go, while it is held: who has opened it meanwhile sees that (repo-lock.c). A
     * manifest.json.old without the other would be in the way of the next run. */
    if (f->made && (r->unsure || r->members->len > 0 || !is_as_made(r) ||
                    !remove_own(r, MANIFEST_OLD) || !remove_own(r, MANIFEST)))
        return;
    if (f->made && f->made_lock)
        remove_own(r, "lock");
    if (f->made_folder)
        rmdir(r->path); /* works only if it is empty */
}

/* ---- what is in it ---- */

struct repo_member *repository_find(const struct repository *r, int64_t id)
{
    for (guint i = 0; i < r->members->len; i++) {
        struct repo_member *m = r->members->pdata[i];

        if (m->id == id)
            return m;
    }
    return NULL;
}

struct repo_member *repository_newest(const struct repository *r, const char *disk)
{
    for (guint i = r->members->len; i > 0; i--) {
        struct repo_member *m = r->members->pdata[i - 1];

        if (!disk || repo_member_disk(m, disk))
            return m;
    }
    return NULL;
}

char *repo_path(const struct repository *r, const char *file)
{
    return g_build_filename(r->path, file, NULL);
}

char *repo_sums_path(const struct repository *r, const char *file)
{
    g_autofree char *path = repo_path(r, file);

    return g_strconcat(path, REPO_SUMS_SUFFIX, NULL);
}
