/* SPDX-License-Identifier: BSD-3-Clause */
/* A repository: opened, saved, locked, cleaned; which member a time means. */
#include "client/base/error.h"
#include "client/repo/repository.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define TIME INT64_C(1793502000000000) /* 2026-11-01T03:00:00Z */
#define DAY  INT64_C(86400000000)

struct rig {
    char *path;
};

/* How many more times a folder can be synced; -1: always. The repository's fsync(2) is this one. After
 * one that fails they succeed again, unless they are to fail from then on. */
static int folder_syncs = -1;
static bool syncs_end;

int fsync(int fd)
{
    struct stat st;

    if (folder_syncs >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (folder_syncs == 0) {
            folder_syncs = syncs_end ? 0 : -1;
            errno = EIO;
            return -1;
        }
        folder_syncs--;
    }
    return fdatasync(fd);
}

/* A folder "closed" is one that this user may not read: also for root, who runs tests at times. */
DIR *opendir(const char *path)
{
    if (g_str_has_suffix(path, "/closed")) {
        errno = EACCES;
        return NULL;
    }
    return fdopendir(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void setup(struct rig *rig, gconstpointer unused)
{
    rig->path = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_assert_nonnull(rig->path);
}

static void teardown(struct rig *rig, gconstpointer unused)
{
    const char *command[] = {"rm", "-rf", rig->path, NULL};

    g_spawn_sync(NULL, (char **)command, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(rig->path);
}

static repository *open_as(struct rig *rig, enum repo_access access)
{
    GError *error = NULL;
    repository *r = repository_open(rig->path, access, &error);

    g_assert_no_error(error);
    return r;
}

static void refused(const char *path, enum repo_access access, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(repository_open(path, access, &error));
    if (!strstr(error->message, message))
        g_error("wanted \"%s\", got \"%s\"", message, error->message);
}

static struct repo_disk *add_disk(struct repo_member *m, const char *disk, enum repo_level level,
                                  int64_t parent)
{
    struct repo_disk *d = repo_disk_new();

    d->disk = g_strdup(disk);
    d->level = level;
    d->parent = parent;
    d->file = repo_file_name(disk, m->id, level);
    d->sums = g_strdup(HASH);
    g_ptr_array_add(m->disks, d);
    return d;
}

/* A member a day after the one before, of vda and, in every second one, of vdb. */
static struct repo_member *add_member(repository *r)
{
    struct repo_member *m = repo_member_new();

    m->id = r->next_id++;
    m->uuid = g_uuid_string_random();
    m->time = TIME + m->id * DAY + 500000;
    if (m->id % 2 == 0)
        add_disk(m, "vdb", REPO_FULL, -1);
    add_disk(m, "vda", m->id == 0 ? REPO_FULL : REPO_INC, m->id - 1);
    g_ptr_array_add(r->members, m);
    return m;
}

static void save(repository *r)
{
    g_autoptr(GError) error = NULL;

    repository_save(r, &error);
    g_assert_no_error(error);
}

static char *in(struct rig *rig, const char *name)
{
    return g_build_filename(rig->path, name, NULL);
}

static void put(struct rig *rig, const char *name, const char *text)
{
    g_autofree char *path = in(rig, name), *folder = g_path_get_dirname(path);

    g_mkdir_with_parents(folder, 0700);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static bool is_there(struct rig *rig, const char *name)
{
    g_autofree char *path = in(rig, name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* ---- opening and saving ---- */

static void test_made(struct rig *rig, gconstpointer unused)
{
    g_autofree char *inner = in(rig, "inner//");
    g_autoptr(GError) error = NULL;
    repository *r = repository_open(inner, REPO_CREATE, &error);

    g_assert_no_error(error);
    g_assert_cmpint(r->next_id, ==, 0);
    g_assert_cmpuint(r->members->len, ==, 0);
    g_assert_true(g_uuid_string_is_valid(r->uuid));
    g_assert_true(g_str_has_suffix(r->path, "/inner"));
    repository_close(r);
    r = repository_open(inner, REPO_READ, &error);
    g_assert_no_error(error);
    repository_close(r);
    refused(rig->path, REPO_CREATE, "it is not empty: inner is there");
    refused(rig->path, REPO_READ, "is no repository: there is no manifest.json in it");
}

/* What a making that was cut leaves does not hold up the next one. */
static void test_making_cut(struct rig *rig, gconstpointer unused)
{
    put(rig, "lock", "1\n");
    put(rig, "manifest.json.partial", "{");
    repository_close(open_as(rig, REPO_CREATE));
    g_assert_true(is_there(rig, "manifest.json"));
    g_assert_false(is_there(rig, "manifest.json.partial"));
}

static void test_saved(struct rig *rig, gconstpointer unused)
{
    g_autofree char *now = NULL, *old = NULL, *name = in(rig, "manifest.json"),
                    *old_name = in(rig, "manifest.json.old");
    repository *r = open_as(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    add_member(r);
    save(r);
    g_assert_true(g_file_get_contents(name, &old, NULL, NULL));
    add_member(r);
    save(r);
    repository_close(r);
    g_assert_true(g_file_get_contents(old_name, &now, NULL, NULL));
    g_assert_cmpstr(old, ==, now);
    r = open_as(rig, REPO_LOOK);
    g_assert_cmpuint(r->members->len, ==, 2);
    g_assert_cmpint(r->next_id, ==, 2);
    g_assert_cmpint(repository_save(r, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "open for reading only"));
    repository_close(r);
}

/* A change that breaks a rule is not written. */
static void test_not_saved(struct rig *rig, gconstpointer unused)
{
    repository *r = open_as(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;
    struct repo_member *m;

    add_member(r);
    save(r);
    m = add_member(r);
    repo_member_disk(m, "vda")->parent = 7;
    g_assert_cmpint(repository_save(r, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "would be wrong: member 1: disk vda: its parent"));
    repository_close(r);
    r = open_as(rig, REPO_READ);
    g_assert_cmpuint(r->members->len, ==, 1);
    repository_close(r);
}

static void test_damaged(struct rig *rig, gconstpointer unused)
{
    repository *r = open_as(rig, REPO_CREATE);

    add_member(r);
    save(r);
    add_member(r);
    save(r);
    repository_close(r);
    put(rig, "manifest.json", "{}\n");
    refused(
        rig->path, REPO_READ,
        "it is cut short, or was edited; manifest.json.old is sound, and its newest member is 0, "
        "of 2026-11-01T03:00:00.500000Z: see nbdfleece-repository(5)");
    put(rig, "manifest.json.old", "{}\n");
    refused(rig->path, REPO_WRITE, "; manifest.json.old cannot be used either");
    refused(rig->path, REPO_CREATE, "; manifest.json.old cannot be used either");
}

/* A manifest that is gone does not make a new repository of one that has members. */
static void test_gone(struct rig *rig, gconstpointer unused)
{
    g_autofree char *name = in(rig, "manifest.json");
    repository *r = open_as(rig, REPO_CREATE);

    add_member(r);
    save(r);
    repository_close(r);
    g_unlink(name);
    refused(rig->path, REPO_CREATE, "manifest.json.old is there");
    refused(rig->path, REPO_READ, "manifest.json.old is sound, and has no members");
}

/* Whichever sync of the folder fails: a save that has failed leaves the manifest as it was, so that
 * files of the member that was not saved may be removed. */
static void test_save_fails(struct rig *rig, gconstpointer unused)
{
    for (int syncs = 0;; syncs++) {
        repository *r = open_as(rig, REPO_CREATE);
        guint before = r->members->len;
        int result;

        add_member(r);
        folder_syncs = syncs;
        result = repository_save(r, NULL);
        folder_syncs = -1;
        repository_close(r);
        r = open_as(rig, REPO_READ);
        g_assert_cmpuint(r->members->len, ==, before + (result == 0));
        repository_close(r);
        if (result == 0) {
            g_assert_cmpint(syncs, ==, 2); /* manifest.json.old, manifest.json */
            return;
        }
    }
}

/* Where the manifest before cannot be put back either, nobody knows which one a start after a power cut
 * finds. So the caller is told, and files of the member are not removed. */
static void test_save_unsure(struct rig *rig, gconstpointer unused)
{
    repository *r = open_as(rig, REPO_CREATE);

    add_member(r);
    save(r);
    g_assert_false(r->unsure);
    add_member(r);
    put(rig, "vda/00001-inc.qcow2", "x");
    folder_syncs = 1; /* of manifest.json.old */
    syncs_end = true;
    g_assert_cmpint(repository_save(r, NULL), ==, -1);
    folder_syncs = -1;
    syncs_end = false;
    g_assert_true(r->unsure);
    g_ptr_array_remove_index(r->members, 1);
    r->next_id--;
    g_assert_cmpint(repository_clean(r, NULL, NULL), ==, -1);
    g_assert_true(is_there(rig, "vda/00001-inc.qcow2"));
    add_member(r);
    save(r);
    g_assert_false(r->unsure);
    repository_close(r);
}

/* ---- the lock ---- */

/* Does another process get it? */
static bool another_gets(struct rig *rig, enum repo_access access)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        repository *r = repository_open(rig->path, access, NULL);

        _exit(r ? 0 : 1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return status == 0;
}

static void test_lock(struct rig *rig, gconstpointer unused)
{
    g_autofree char *message = g_strdup_printf("is in use by process %d", (int)getpid());
    repository *r = open_as(rig, REPO_CREATE);

    g_assert_false(another_gets(rig, REPO_READ));
    g_assert_false(another_gets(rig, REPO_WRITE));
    g_assert_false(another_gets(rig, REPO_CREATE));
    g_assert_true(another_gets(rig, REPO_LOOK));
    refused(rig->path, REPO_READ, message);
    repository_close(r);
    r = open_as(rig, REPO_READ);
    g_assert_true(another_gets(rig, REPO_READ));
    refused(rig->path, REPO_WRITE, "is being read by another process");
    repository_close(r);
    g_assert_true(another_gets(rig, REPO_WRITE));
}

/* ---- what runs that were cut have left ---- */

static void test_clean(struct rig *rig, gconstpointer unused)
{
    static const char *const stay[] = {"vda/00000-full.qcow2",
                                       "vda/00000-full.qcow2.sums",
                                       "vda/00001-inc.qcow2",
                                       "vda/notes.txt",
                                       "vda/00001-inc.qcow2.orig",
                                       "vda/0001-inc.qcow2",
                                       "vda-copy/00001-inc.qcow2",
                                       "running.json",
                                       "README",
                                       "vda/x/00009-full.qcow2",
                                       "vda/00009-full.raw",
                                       ".hidden/00009-full.qcow2",
                                       "vda/00009-half.qcow2",
                                       "vda/00009-full..qcow2"};
    static const char *const go[] = {
        "vda/00001-inc.qcow2.partial", "vda/00001-full.qcow2",
        "vda/00002-inc.qcow2",         "vda/00002-inc.qcow2.sums",
        "vda/00000-full.1.qcow2",      "vdc/00002-full.qcow2",
        "vdc/00002-full.qcow2.sums",   "vda/00003-diff.qcow2.sums.partial",
        "manifest.json.partial",       "verify.json.partial"};
    g_autoptr(GPtrArray) removed = g_ptr_array_new_with_free_func(g_free);
    repository *r = open_as(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    add_member(r);
    add_member(r);
    save(r);
    for (gsize i = 0; i < G_N_ELEMENTS(stay); i++)
        put(rig, stay[i], "x");
    for (gsize i = 0; i < G_N_ELEMENTS(go); i++)
        put(rig, go[i], "x");
    repository_clean(r, removed, &error);
    g_assert_no_error(error);
    for (gsize i = 0; i < G_N_ELEMENTS(stay); i++) {
        if (!is_there(rig, stay[i]))
            g_error("%s has gone", stay[i]);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(go); i++)
        g_assert_false(is_there(rig, go[i]));
    g_assert_cmpuint(removed->len, ==, G_N_ELEMENTS(go));
    g_assert_false(is_there(rig, "vdc"));
    repository_close(r);
}

/* A link that leads elsewhere is neither followed nor removed. */
static void test_clean_links(struct rig *rig, gconstpointer unused)
{
    g_autofree char *link = in(rig, "vda/00009-full.qcow2"), *folder = in(rig, "elsewhere");
    repository *r = open_as(rig, REPO_CREATE);

    put(rig, "there/00009-full.qcow2.txt", "x");
    put(rig, "vda/x", "x");
    g_assert_cmpint(symlink("there", folder), ==, 0);
    g_assert_cmpint(symlink("../there/00009-full.qcow2.txt", link), ==, 0);
    add_member(r);
    save(r);
    repository_clean(r, NULL, NULL);
    g_assert_true(is_there(rig, "there/00009-full.qcow2.txt"));
    g_assert_true(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
    repository_close(r);
}

/* manifest.json.old never names a file that is gone, so that whoever puts it back loses nothing: where it
 * cannot be made so, no whole file is removed. */
static void test_clean_old(struct rig *rig, gconstpointer unused)
{
    g_autofree char *now = in(rig, "manifest.json"), *old = in(rig, "manifest.json.old"),
                    *obstacle = in(rig, "manifest.json.old.partial"), *text = NULL, *other = NULL,
                    *kept = NULL;
    repository *r = open_as(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    add_member(r);
    save(r);
    add_member(r);
    save(r);
    g_assert_true(g_file_get_contents(old, &kept, NULL, NULL));
    put(rig, "vda/00001-inc.qcow2.partial", "x");
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(old, &other, NULL, NULL));
    g_assert_cmpstr(kept, ==, other); /* no whole file has gone */

    put(rig, "vda/00000-full.1.qcow2", "x");
    g_assert_cmpint(g_mkdir(obstacle, 0700), ==, 0);
    g_assert_cmpint(repository_clean(r, NULL, NULL), ==, -1);
    g_assert_true(is_there(rig, "vda/00000-full.1.qcow2"));
    g_assert_cmpint(rmdir(obstacle), ==, 0);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_false(is_there(rig, "vda/00000-full.1.qcow2"));
    g_free(other);
    g_assert_true(g_file_get_contents(now, &text, NULL, NULL));
    g_assert_true(g_file_get_contents(old, &other, NULL, NULL));
    g_assert_cmpstr(text, ==, other);
    repository_close(r);
}

/* Folders that are none of ours do not hold it up. */
static void test_clean_others(struct rig *rig, gconstpointer unused)
{
    repository *r = open_as(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    put(rig, "lost+found/00009-full.qcow2", "x");
    put(rig, "closed/00009-full.qcow2", "x");
    put(rig, "vda/00009-full.qcow2", "x");
    add_member(r);
    save(r);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_there(rig, "lost+found/00009-full.qcow2"));
    g_assert_true(is_there(rig, "closed/00009-full.qcow2"));
    g_assert_false(is_there(rig, "vda/00009-full.qcow2"));
    repository_close(r);
}

/* The folder of a disk may be on another file system: then what a cut run has left in it goes, too. */
static void test_clean_linked_folder(struct rig *rig, gconstpointer unused)
{
    g_autofree char *other = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_autofree char *folder = in(rig, "vda"), *left = in(rig, "vda/00001-inc.qcow2"),
                    *kept = in(rig, "vda/00000-full.qcow2");
    repository *r = open_as(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(symlink(other, folder), ==, 0);
    put(rig, "vda/00000-full.qcow2", "x");
    put(rig, "vda/00001-inc.qcow2", "x");
    add_member(r);
    save(r);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_there(rig, "vda/00000-full.qcow2"));
    g_assert_false(is_there(rig, "vda/00001-inc.qcow2"));
    g_assert_true(is_there(rig, "vda"));
    g_unlink(kept);
    g_rmdir(other);
    repository_close(r);
}

/* Links that share a folder, or lead into another repository: whose file it is cannot be told, and it
 * stays. */
static void test_clean_shared_folder(struct rig *rig, gconstpointer unused)
{
    g_autofree char *vda = in(rig, "repo/vda"), *vdb = in(rig, "repo/vdb"), *path = in(rig, "repo");
    struct rig inner = {.path = path};
    g_autoptr(GError) error = NULL;
    repository *r;

    r = open_as(&inner, REPO_CREATE);
    put(rig, "disks/00000-full.qcow2", "x");
    put(rig, "disks/00001-inc.qcow2", "x");
    g_assert_cmpint(symlink("../disks", vda), ==, 0);
    g_assert_cmpint(symlink("../disks", vdb), ==, 0);
    add_member(r);
    save(r);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_there(rig, "disks/00001-inc.qcow2"));
    g_unlink(vdb);
    put(rig, "manifest.json", "{}");
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_there(rig, "disks/00001-inc.qcow2"));
    repository_close(r);
}

/* ---- which member is meant ---- */

static void means(const repository *r, const char *until, const char *disk, int64_t id)
{
    g_autoptr(GError) error = NULL;
    const struct repo_member *m = repository_until(r, until, disk, &error);

    g_assert_no_error(error);
    g_assert_cmpint(m->id, ==, id);
}

static void means_none(const repository *r, const char *until, const char *disk,
                       const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(repository_until(r, until, disk, &error));
    if (!strstr(error->message, message))
        g_error("wanted \"%s\", got \"%s\"", message, error->message);
}

static void test_until(struct rig *rig, gconstpointer unused)
{
    repository *r = open_as(rig, REPO_CREATE);

    means_none(r, NULL, NULL, "there is no member: there are no members");
    for (unsigned i = 0; i < 6; i++)
        add_member(r);
    g_ptr_array_remove_index(r->members, 3);
    means(r, NULL, NULL, 5);
    means(r, NULL, "vdb", 4);
    means(r, "1", NULL, 1);
    means(r, "1", "vdb", 0);
    means(r, "0005", NULL, 5);
    means(r, "2026-11-02 03:00", NULL, 1);
    means(r, "2026-11-02 03:00:00", NULL, 1);
    means(r, "2026-11-02 03:00:00.5", NULL, 1);
    means(r, "2026-11-02 03:00:00.499999", NULL, 0);
    means(r, "2026-11-04", NULL, 2);
    means(r, "2030-01-01", "vdb", 4);
    means_none(r, "3", NULL,
               "there is no member 3: the members are 0, of 2026-11-01T03:00:00.500000Z, to 5, of "
               "2026-11-06T03:00:00.500000Z");
    means_none(r, "99999999999999999999", NULL, "there is no member 99999999999999999999");
    means_none(r, "2026-10-31", NULL, "there is no member not after 2026-10-31: the members are 0");
    means_none(r, NULL, "vdc", "there is no member with disk vdc: the newest member has vda");
    means_none(r, "5x", NULL, "\"5x\" is neither the ID of a member nor a time");
    repository_close(r);
}

/* Where the clock was wrong, a time does not say which member is meant. */
static void test_until_wrong_clock(struct rig *rig, gconstpointer unused)
{
    repository *r = open_as(rig, REPO_CREATE);

    for (unsigned i = 0; i < 4; i++)
        add_member(r)->time += i == 1 ? 365 * DAY : 0;
    means(r, "2026-11-01", NULL, 0);
    means(r, "2", NULL, 2);
    means(r, "2026-11-04", "vdb", 2); /* the wrong one does not have it */
    means(r, "2030-01-01", NULL, 3);
    means_none(r, "2026-11-03", NULL,
               "member 2 is not after 2026-11-03, but the older member 1, of "
               "2027-11-02T03:00:00.500000Z, is: a clock was wrong; give the ID of a member");
    repository_close(r);
}

int main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function)                                                                        \
    g_test_add("/repository/" name, struct rig, NULL, setup, function, teardown)
    ADD("made", test_made);
    ADD("making-cut", test_making_cut);
    ADD("saved", test_saved);
    ADD("not-saved", test_not_saved);
    ADD("save-fails", test_save_fails);
    ADD("save-unsure", test_save_unsure);
    ADD("damaged", test_damaged);
    ADD("gone", test_gone);
    ADD("lock", test_lock);
    ADD("clean", test_clean);
    ADD("clean-links", test_clean_links);
    ADD("clean-old", test_clean_old);
    ADD("clean-others", test_clean_others);
    ADD("clean-linked-folder", test_clean_linked_folder);
    ADD("clean-shared-folder", test_clean_shared_folder);
    ADD("until", test_until);
    ADD("until-wrong-clock", test_until_wrong_clock);
    return g_test_run();
}
