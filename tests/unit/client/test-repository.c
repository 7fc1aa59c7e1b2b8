/* SPDX-License-Identifier: BSD-3-Clause */
/* A repository: opened, saved, locked, cleaned; names; which member a time means. */
#include "client/base/error.h"
#include "client/repo/repo-time.h"
#include "client/repo/repository.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define TIME INT64_C(1793502000000000) /* 2026-11-01T03:00:00Z */
#define DAY  INT64_C(86400000000)

struct rig {
    char *path;
};

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
    g_autofree char *inner = in(rig, "inner");
    g_autoptr(GError) error = NULL;
    repository *r = repository_open(inner, REPO_CREATE, &error);

    g_assert_no_error(error);
    g_assert_cmpint(r->next_id, ==, 0);
    g_assert_cmpuint(r->members->len, ==, 0);
    g_assert_true(g_uuid_string_is_valid(r->uuid));
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

/* ---- names ---- */

static void file_is(const char *disk, const char *file)
{
    g_autofree char *name = repo_file_name(disk, 42, REPO_INC);
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(name, ==, file);
    repo_file_check(name, &error);
    g_assert_no_error(error);
}

static void test_names(void)
{
    g_autofree char *same = repo_backing_name("vda/00001-inc.qcow2", "vda/00000-full.qcow2"),
                    *other = repo_backing_name("vda/00001-inc.qcow2", "vdab/00000-full.qcow2"),
                    *long_name = g_strnfill(300, 'a'), *longer = g_strnfill(301, 'a'),
                    *first = repo_folder_name(long_name), *second = repo_folder_name(longer);

    file_is("vda", "vda/00042-inc.qcow2");
    file_is("a b/../c", "a%20b%2F..%2Fc/00042-inc.qcow2");
    file_is(".hidden", "%2Ehidden/00042-inc.qcow2");
    file_is("..", "%2E./00042-inc.qcow2");
    file_is("-x", "%2Dx/00042-inc.qcow2");
    file_is("", "%/00042-inc.qcow2");
    file_is("lock", "%6Cock/00042-inc.qcow2");
    file_is("manifest.json", "%6Danifest.json/00042-inc.qcow2");
    file_is("\xc3\xa4", "%C3%A4/00042-inc.qcow2");
    g_assert_cmpstr(same, ==, "00000-full.qcow2");
    g_assert_cmpstr(other, ==, "../vdab/00000-full.qcow2");
    g_assert_cmpstr(first, !=, second);
    g_assert_cmpuint(strlen(first), ==, 120);
}

/* ---- times ---- */

static void until_is(const char *text, int64_t wanted)
{
    int64_t time;

    if (!repo_time_until(text, &time))
        g_error("%s is not taken", text);
    g_assert_cmpint(time, ==, wanted);
}

static void test_times(void)
{
    static const char *const wrong[] = {"",
                                        "yesterday",
                                        "2026-11-1",
                                        "2026-11-31",
                                        "2026-11-01 3:00",
                                        "2026-11-01 03:00:",
                                        "2026-11-01 03:00:00.",
                                        "2026-11-01 03:00x",
                                        "2026-11-01Z",
                                        "2026-11-01 03:00 ",
                                        "2026-11-01 03:00:61",
                                        "1926-11-01 03:00",
                                        "2026-11-01T03:00+99:99"};
    int64_t time;

    until_is("2026-11-01T03:00Z", TIME + 59999999);
    until_is("2026-11-01 03:00:00Z", TIME + 999999);
    until_is("2026-11-01T03:00:00.25Z", TIME + 250000);
    until_is("2026-11-01T03:00:00.2500009Z", TIME + 250000);
    until_is("2026-11-01T05:00:00.000000+02:00", TIME);
    until_is("2026-11-01 03:00", TIME + 59999999); /* local: $TZ, which main() sets */
    until_is("2026-11-01", TIME + 21 * INT64_C(3600000000) - 1);
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        if (repo_time_until(wrong[i], &time))
            g_error("%s is taken", wrong[i]);
    }
    for (unsigned i = 0; i < 1000; i++) {
        int64_t some = (int64_t)g_test_rand_int_range(0, G_MAXINT32) * 100003;
        g_autofree char *text = repo_time_text(some);

        g_assert_true(repo_time_parse(text, &time));
        g_assert_cmpint(time, ==, some);
    }
    g_assert_null(repo_time_text(-1));
}

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
    means_none(r, NULL, "vdc",
               "there is no member with disk vdc: there are no members with disk vdc");
    means_none(r, "5x", NULL, "\"5x\" is neither the ID of a member nor a time");
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
    ADD("damaged", test_damaged);
    ADD("gone", test_gone);
    ADD("lock", test_lock);
    ADD("clean", test_clean);
    ADD("clean-links", test_clean_links);
    ADD("until", test_until);
    g_test_add_func("/repository/names", test_names);
    g_test_add_func("/repository/times", test_times);
    return g_test_run();
}
