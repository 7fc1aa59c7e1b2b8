/* SPDX-License-Identifier: BSD-3-Clause */
/* A repository: opened, saved, locked; which member a time means. */
#include "tests/rigs/repository-rig.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* A name that goes at the next flock(2), which is this one: somebody else removes it right then. */
static const char *goes;

int flock(int fd, int operation)
{
    if (goes)
        g_unlink(goes);
    goes = NULL;
    return (int)syscall(SYS_flock, fd, operation);
}

/* The file system has no links. */
static bool no_links;

int link(const char *from, const char *to)
{
    if (!no_links)
        return (int)syscall(SYS_link, from, to);
    errno = EPERM;
    return -1;
}

static void refused(const char *path, enum repo_access access, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(repository_open(path, access, &error));
    if (!strstr(error->message, message))
        g_error("wanted \"%s\", got \"%s\"", message, error->message);
}

/* ---- opening and saving ---- */

static void test_made(struct rig *rig, gconstpointer unused)
{
    g_autofree char *inner = rig_path(rig, "inner//");
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

/* What is refused is left as it was. */
static void test_refused(struct rig *rig, gconstpointer unused)
{
    rig_put(rig, "holiday.jpg", "x");
    refused(rig->path, REPO_CREATE, "it is not empty: holiday.jpg is there");
    refused(rig->path, REPO_WRITE, "is no repository");
    refused(rig->path, REPO_READ, "is no repository");
    g_assert_false(rig_has(rig, "lock"));
}

static void unmake(repository *r)
{
    repository_unmake(r);
    repository_close(r);
}

static void test_unmade(struct rig *rig, gconstpointer unused)
{
    g_autofree char *inner = rig_path(rig, "inner");
    repository *r = repository_open(inner, REPO_CREATE, NULL);

    rig_save(r); /* so that there is a manifest.json.old */
    unmake(r);
    g_assert_false(rig_has(rig, "inner"));
    unmake(rig_open(rig, REPO_CREATE));
    g_assert_false(rig_has(rig, "manifest.json") || rig_has(rig, "lock"));
    rig_put(rig, "lock", "");
    unmake(rig_open(rig, REPO_CREATE));
    g_assert_false(rig_has(rig, "manifest.json"));
    g_assert_true(rig_has(rig, "lock")); /* it was there */
}

/* What somebody has put there meanwhile is not left without its repository, and one that was there, or has
 * members, stays. */
static void test_not_unmade(struct rig *rig, gconstpointer unused)
{
    repository *r = rig_open(rig, REPO_CREATE);
    g_autofree char *other = rig_path(rig, "running.json");

    rig_put(rig, "running.json", "{}");
    unmake(r);
    g_assert_true(rig_has(rig, "manifest.json") && rig_has(rig, "lock"));
    g_unlink(other);
    unmake(rig_open(rig, REPO_CREATE));
    g_assert_true(rig_has(rig, "manifest.json") && rig_has(rig, "lock"));
}

static void test_member_not_unmade(struct rig *rig, gconstpointer unused)
{
    repository *r = rig_open(rig, REPO_CREATE);

    rig_add_member(r);
    rig_save(r);
    unmake(r);
    g_assert_true(rig_has(rig, "manifest.json"));
}

/* A save that fails leaves nothing of the repository that it was to make. */
static void test_making_fails(struct rig *rig, gconstpointer unused)
{
    g_autofree char *inner = rig_path(rig, "inner");

    for (folder_syncs = 0; folder_syncs < 2;) {
        int syncs = folder_syncs;

        g_assert_null(repository_open(inner, REPO_CREATE, NULL));
        g_assert_cmpint(folder_syncs, ==, -1);
        g_assert_false(rig_has(rig, "inner"));
        folder_syncs = syncs + 1;
    }
    folder_syncs = -1;
}

/* What a making that was cut leaves does not hold up the next one. */
static void test_making_cut(struct rig *rig, gconstpointer unused)
{
    rig_put(rig, "lock", "1\n");
    rig_put(rig, "manifest.json.partial", "{");
    repository_close(rig_open(rig, REPO_CREATE));
    g_assert_true(rig_has(rig, "manifest.json"));
    g_assert_false(rig_has(rig, "manifest.json.partial"));
}

static void test_saved(struct rig *rig, gconstpointer unused)
{
    g_autofree char *now = NULL, *old = NULL, *name = rig_path(rig, "manifest.json"),
                    *old_name = rig_path(rig, "manifest.json.old");
    repository *r = rig_open(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    rig_add_member(r);
    rig_save(r);
    g_assert_true(g_file_get_contents(name, &old, NULL, NULL));
    rig_add_member(r);
    rig_save(r);
    repository_close(r);
    g_assert_true(g_file_get_contents(old_name, &now, NULL, NULL));
    g_assert_cmpstr(old, ==, now);
    r = rig_open(rig, REPO_LOOK);
    g_assert_cmpuint(r->members->len, ==, 2);
    g_assert_cmpint(r->next_id, ==, 2);
    g_assert_cmpint(repository_save(r, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "open for reading only"));
    repository_close(r);
}

/* The manifest before is kept as well where the file system has no links, and after a save that was cut at any
 * of its steps. */
static void test_saved_after(struct rig *rig, gconstpointer how)
{
    g_autofree char *now = rig_path(rig, "manifest.json"),
                    *old = rig_path(rig, "manifest.json.old"),
                    *partial = rig_path(rig, "manifest.json.old.partial"), *before = NULL,
                    *kept = NULL;
    repository *r = rig_open(rig, REPO_CREATE);

    rig_add_member(r);
    rig_save(r);
    g_assert_true(g_file_get_contents(now, &before, NULL, NULL));
    no_links = strcmp(how, "no-links") == 0;
    if (strcmp(how, "partial-is-left") == 0)
        g_assert_cmpint(link(now, partial), ==, 0);
    if (strcmp(how, "old-is-linked") == 0) {
        g_unlink(old);
        g_assert_cmpint(link(now, old), ==, 0);
    }
    rig_add_member(r);
    rig_save(r);
    no_links = false;
    repository_close(r);
    g_assert_true(g_file_get_contents(old, &kept, NULL, NULL));
    g_assert_cmpstr(before, ==, kept);
    g_assert_false(rig_has(rig, "manifest.json.old.partial"));
    r = rig_open(rig, REPO_READ);
    g_assert_cmpuint(r->members->len, ==, 2);
    repository_close(r);
}

/* A change that breaks a rule is not written. */
static void test_not_saved(struct rig *rig, gconstpointer unused)
{
    repository *r = rig_open(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;
    struct repo_member *m;

    rig_add_member(r);
    rig_save(r);
    m = rig_add_member(r);
    repo_member_disk(m, "vda")->parent = 7;
    g_assert_cmpint(repository_save(r, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "would be wrong: member 1: disk vda: its parent"));
    repository_close(r);
    r = rig_open(rig, REPO_READ);
    g_assert_cmpuint(r->members->len, ==, 1);
    repository_close(r);
}

static void test_damaged(struct rig *rig, gconstpointer unused)
{
    repository *r = rig_open(rig, REPO_CREATE);

    rig_add_member(r);
    rig_save(r);
    rig_add_member(r);
    rig_save(r);
    repository_close(r);
    rig_put(rig, "manifest.json", "{}\n");
    refused(
        rig->path, REPO_READ,
        "it is cut short, or was edited; manifest.json.old is sound, and its newest member is 0, "
        "of 2026-11-01T03:00:00.500000Z: see nbdfleece-repository(5)");
    rig_put(rig, "manifest.json.old", "{}\n");
    refused(rig->path, REPO_WRITE, "; manifest.json.old cannot be used either");
    refused(rig->path, REPO_CREATE, "; manifest.json.old cannot be used either");
}

/* A manifest that is gone does not make a new repository of one that has members. */
static void test_gone(struct rig *rig, gconstpointer unused)
{
    g_autofree char *name = rig_path(rig, "manifest.json");
    repository *r = rig_open(rig, REPO_CREATE);

    rig_add_member(r);
    rig_save(r);
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
        repository *r = rig_open(rig, REPO_CREATE);
        guint before = r->members->len;
        int result;

        rig_add_member(r);
        folder_syncs = syncs;
        result = repository_save(r, NULL);
        folder_syncs = -1;
        repository_close(r);
        r = rig_open(rig, REPO_READ);
        g_assert_cmpuint(r->members->len, ==, before + (result == 0));
        repository_close(r);
        if (result == 0) {
            g_assert_cmpint(syncs, ==, 1); /* of manifest.json, and manifest.json.old */
            return;
        }
    }
}

/* Where the manifest before cannot be put back either, nobody knows which one a start after a power cut
 * finds. So the caller is told, and files of the member are not removed. */
static void test_save_unsure(struct rig *rig, gconstpointer unused)
{
    repository *r = rig_open(rig, REPO_CREATE);

    rig_add_member(r);
    rig_save(r);
    g_assert_false(r->unsure);
    rig_add_member(r);
    rig_put(rig, "vda/00001-inc.qcow2", "x");
    folder_syncs = 0;
    syncs_end = true;
    g_assert_cmpint(repository_save(r, NULL), ==, -1);
    folder_syncs = -1;
    syncs_end = false;
    g_assert_true(r->unsure);
    g_ptr_array_remove_index(r->members, 1);
    r->next_id--;
    g_assert_cmpint(repository_clean(r, NULL, NULL), ==, -1);
    g_assert_true(rig_has(rig, "vda/00001-inc.qcow2"));
    rig_add_member(r);
    rig_save(r);
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
    repository *r = rig_open(rig, REPO_CREATE);

    g_assert_false(another_gets(rig, REPO_READ));
    g_assert_false(another_gets(rig, REPO_WRITE));
    g_assert_false(another_gets(rig, REPO_CREATE));
    g_assert_true(another_gets(rig, REPO_LOOK));
    refused(rig->path, REPO_READ, message);
    repository_close(r);
    r = rig_open(rig, REPO_READ);
    g_assert_true(another_gets(rig, REPO_READ));
    refused(rig->path, REPO_WRITE, "is being read by another process");
    repository_close(r);
    g_assert_true(another_gets(rig, REPO_WRITE));
}

/* A lock that goes while it is taken is nobody's: the next one would have another. */
static void test_lock_gone(struct rig *rig, gconstpointer unused)
{
    static const enum repo_access all[] = {REPO_CREATE, REPO_WRITE, REPO_READ};
    g_autofree char *lock = rig_path(rig, "lock");

    repository_close(rig_open(rig, REPO_CREATE));
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        repository *r;

        goes = lock;
        r = rig_open(rig, all[i]);
        g_assert_null(goes);
        g_assert_false(another_gets(rig, REPO_WRITE));
        repository_close(r);
    }
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
    repository *r = rig_open(rig, REPO_CREATE);

    means_none(r, NULL, NULL, "there is no member: there are no members");
    for (unsigned i = 0; i < 6; i++)
        rig_add_member(r);
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
    repository *r = rig_open(rig, REPO_CREATE);

    for (unsigned i = 0; i < 4; i++)
        rig_add_member(r)->time += i == 1 ? 365 * RIG_DAY : 0;
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
    static const char *const saves[] = {"no-links", "partial-is-left", "old-is-linked"};

    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function)                                                                        \
    g_test_add("/repository/" name, struct rig, NULL, rig_set_up, function, rig_tear_down)
    ADD("made", test_made);
    ADD("refused", test_refused);
    ADD("unmade", test_unmade);
    ADD("not-unmade", test_not_unmade);
    ADD("member-not-unmade", test_member_not_unmade);
    ADD("making-fails", test_making_fails);
    ADD("making-cut", test_making_cut);
    ADD("saved", test_saved);
    for (gsize i = 0; i < G_N_ELEMENTS(saves); i++) {
        g_autofree char *path = g_strconcat("/repository/saved-after/", saves[i], NULL);

        g_test_add(path, struct rig, saves[i], rig_set_up, test_saved_after, rig_tear_down);
    }
    ADD("not-saved", test_not_saved);
    ADD("save-fails", test_save_fails);
    ADD("save-unsure", test_save_unsure);
    ADD("damaged", test_damaged);
    ADD("gone", test_gone);
    ADD("lock", test_lock);
    ADD("lock-gone", test_lock_gone);
    ADD("until", test_until);
    ADD("until-wrong-clock", test_until_wrong_clock);
    return g_test_run();
}
