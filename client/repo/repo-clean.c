/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Removing what runs that were cut have left. A person may have put files of their own into the
 * repository, also copies of ours, so that all of this has to be true of a file that is removed: it is
 * a regular file; it has a name that we give; no member names it; and it lies in the folder of a disk
 * that a member has, or is newer than every member, as what a cut first backup of a disk leaves.
 *
 * The folder of a member's disk may be a link, as it may be for those who read and write there; but not
 * where others have files in the folder that it leads to. Of a disk that no member has yet, only the files
 * go that a run has put there, by the record of that run (repository_clean_link).
 *
 * Nor may manifest.json.old name it, which a person may put back. After a prune this names files
 * that have gone, and not those that took their place. So before the first whole file is removed, it
 * becomes as manifest.json.
 */
#include "client/base/error.h"
#include "client/base/partial.h"
#include "client/repo/repository.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cleaning {
    struct repository *r;
    GPtrArray *removed;  /* may be NULL */
    GHashTable *files;   /* names that stay: files, and their checksums */
    GHashTable *folders; /* of disks that members have */
    int64_t newest;      /* ID of the newest member; -1: none */
    bool forgotten;      /* manifest.json.old names nothing that may go */
};

static void cleaning_init(struct cleaning *c, struct repository *r, GPtrArray *removed)
{
    const struct repo_member *newest = repository_newest(r, NULL);

    *c = (struct cleaning){
        .r = r,
        .removed = removed,
        .files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .folders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .newest = newest ? newest->id : -1,
    };
    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++) {
            const struct repo_disk *d = m->disks->pdata[k];

            g_hash_table_add(c->files, g_strdup(d->file));
            g_hash_table_add(c->files, g_strconcat(d->file, REPO_SUMS_SUFFIX, NULL));
            g_hash_table_add(c->folders, g_path_get_dirname(d->file));
        }
    }
}

static void cleaning_clear(struct cleaning *c)
{
    g_hash_table_unref(c->files);
    g_hash_table_unref(c->folders);
}

/* Does manifest.json.old not name the file? It is made so. 0, or -1 and *err. */
static int forget(struct cleaning *c, const char *file, GError **err)
{
    if (c->forgotten || g_str_has_suffix(file, ".partial"))
        return 0;
    if (repository_forget_old(c->r, err) < 0)
        return -1;
    c->forgotten = true;
    return 0;
}

/* Takes over the name. */
static int remove_file(struct cleaning *c, char *file, GError **err)
{
    g_autofree char *path = repo_path(c->r, file), *name = file;
    struct stat st;

    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    if (forget(c, file, err) < 0)
        return -1;
    if (unlink(path) < 0 && errno != ENOENT)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it cannot be removed: %s", path,
                           g_strerror(errno));
    if (c->removed)
        g_ptr_array_add(c->removed, g_steal_pointer(&name));
    return 0;
}

static bool may_go(const struct cleaning *c, const char *folder, const char *name)
{
    g_autofree char *file = g_strconcat(folder, "/", name, NULL);
    int64_t id;

    return repo_name_is_ours(name, &id) && !g_hash_table_contains(c->files, file) &&
           (g_hash_table_contains(c->folders, folder) || id > c->newest);
}

/* NULL and *err; NULL alone: it is not ours to read. */
static GDir *open_folder(const struct cleaning *c, const char *folder, GError **err)
{
    g_autofree char *path = repo_path(c->r, folder);
    GError *error = NULL;
    GDir *dir = g_dir_open(path, 0, &error);

    if (dir)
        return dir;
    if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_ACCES) &&
        !g_hash_table_contains(c->folders, folder))
        g_error_free(error);
    else
        g_propagate_error(err, error);
    return NULL;
}

static int clean_folder(struct cleaning *c, const char *folder, GError **err)
{
    g_autofree char *path = repo_path(c->r, folder);
    GError *error = NULL;
    g_autoptr(GDir) dir = open_folder(c, folder, &error);
    bool some = false;
    const char *name;

    if (error) {
        g_propagate_error(err, error);
        return -1;
    }
    while (dir && (name = g_dir_read_name(dir))) {
        if (!may_go(c, folder, name))
            continue;
        some = true;
        if (remove_file(c, g_strconcat(folder, "/", name, NULL), err) < 0)
            return -1;
    }
    if (some)
        rmdir(path); /* works only if it is empty, and no link */
    return 0;
}

/* ---- which folders ---- */

/* Does the folder of another disk lead to the same one? */
static bool is_shared(const struct cleaning *c, const char *folder, const struct stat *st)
{
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, c->folders);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_autofree char *path = repo_path(c->r, key);
        struct stat other;

        if (strcmp(key, folder) != 0 && stat(path, &other) == 0 && other.st_dev == st->st_dev &&
            other.st_ino == st->st_ino)
            return true;
    }
    return false;
}

/* May the link `folder` be followed? It leads to a folder that is this disk's alone, and in no
 * repository. */
static bool may_follow(const struct cleaning *c, const char *folder)
{
    g_autofree char *path = repo_path(c->r, folder);
    g_autofree char *manifest = g_strconcat(path, "/../manifest.json", NULL);
    struct stat st, other;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && lstat(manifest, &other) < 0 &&
           !is_shared(c, folder, &st);
}

static bool is_for_cleaning(const struct cleaning *c, const char *name)
{
    g_autofree char *path = repo_path(c->r, name);
    bool is_member = g_hash_table_contains(c->folders, name);
    struct stat st;

    if (lstat(path, &st) < 0 || (!is_member && !repo_folder_is_ours(name)))
        return false;
    return S_ISDIR(st.st_mode) || (S_ISLNK(st.st_mode) && is_member && may_follow(c, name));
}

/* ---- all ---- */

static bool is_partial_at_top(const char *name)
{
    static const char *const names[] = {"manifest.json.partial", "manifest.json.old.partial",
                                        "running.json.partial", "verify.json.partial", NULL};

    return g_strv_contains(names, name);
}

static int clean(struct cleaning *c, GError **err)
{
    g_autoptr(GDir) dir = g_dir_open(c->r->path, 0, err);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (is_partial_at_top(name) && remove_file(c, g_strdup(name), err) < 0)
            return -1;
        if (is_for_cleaning(c, name) && clean_folder(c, name, err) < 0)
            return -1;
    }
    return dir ? 0 : -1;
}

static bool is_link(const struct cleaning *c, const char *folder)
{
    g_autofree char *path = repo_path(c->r, folder);
    struct stat st;

    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/* FILE.partial; not where a process has it open with its lock: then it is another's. */
static void remove_partial(const struct cleaning *c, const char *file)
{
    g_autofree char *path = repo_path(c->r, file);

    partial_free(partial_again(path, true, NULL));
}

static int clean_link(struct cleaning *c, const char *file, bool whole, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(file);
    g_autofree char *sums = g_strconcat(file, REPO_SUMS_SUFFIX, NULL);
    g_autofree char *path = repo_path(c->r, file);
    struct stat st;

    if (g_hash_table_contains(c->folders, folder) || !is_link(c, folder) || !may_follow(c, folder))
        return 0;
    remove_partial(c, file);
    remove_partial(c, sums);
    if (whole && remove_file(c, g_strdup(file), err) < 0)
        return -1;
    return lstat(path, &st) == 0 ? 0 : remove_file(c, g_steal_pointer(&sums), err);
}

int repository_clean_link(struct repository *r, const char *file, bool whole, GError **err)
{
    struct cleaning c;
    int result;

    cleaning_init(&c, r, NULL);
    result = clean_link(&c, file, whole, err);
    cleaning_clear(&c);
    return result;
}

int repository_clean(struct repository *r, GPtrArray *removed, GError **err)
{
    struct cleaning c;
    int result;

    cleaning_init(&c, r, removed);
    result = clean(&c, err);
    cleaning_clear(&c);
    return result;
}
