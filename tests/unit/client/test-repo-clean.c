/* SPDX-License-Identifier: BSD-3-Clause */
/* What runs that were cut have left in a repository goes, and nothing else. */
#include "tests/rigs/repository-rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

/* A folder "closed" is one that this user may not read: also for root, who runs tests at times. */
DIR *opendir(const char *path)
{
    if (g_str_has_suffix(path, "/closed")) {
        errno = EACCES;
        return NULL;
    }
    return fdopendir(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

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
    repository *r = rig_open(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    rig_add_member(r);
    rig_add_member(r);
    rig_save(r);
    for (gsize i = 0; i < G_N_ELEMENTS(stay); i++)
        rig_put(rig, stay[i], "x");
    for (gsize i = 0; i < G_N_ELEMENTS(go); i++)
        rig_put(rig, go[i], "x");
    repository_clean(r, removed, &error);
    g_assert_no_error(error);
    for (gsize i = 0; i < G_N_ELEMENTS(stay); i++) {
        if (!rig_has(rig, stay[i]))
            g_error("%s has gone", stay[i]);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(go); i++)
        g_assert_false(rig_has(rig, go[i]));
    g_assert_cmpuint(removed->len, ==, G_N_ELEMENTS(go));
    g_assert_false(rig_has(rig, "vdc"));
    repository_close(r);
}

/* A link that leads elsewhere is neither followed nor removed. */
static void test_clean_links(struct rig *rig, gconstpointer unused)
{
    g_autofree char *link = rig_path(rig, "vda/00009-full.qcow2"),
                    *folder = rig_path(rig, "elsewhere");
    repository *r = rig_open(rig, REPO_CREATE);

    rig_put(rig, "there/00009-full.qcow2.txt", "x");
    rig_put(rig, "vda/x", "x");
    g_assert_cmpint(symlink("there", folder), ==, 0);
    g_assert_cmpint(symlink("../there/00009-full.qcow2.txt", link), ==, 0);
    rig_add_member(r);
    rig_save(r);
    repository_clean(r, NULL, NULL);
    g_assert_true(rig_has(rig, "there/00009-full.qcow2.txt"));
    g_assert_true(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
    repository_close(r);
}

/* manifest.json.old never names a file that is gone, so that whoever puts it back loses nothing: where it
 * cannot be made so, no whole file is removed. */
static void test_clean_old(struct rig *rig, gconstpointer unused)
{
    g_autofree char *now = rig_path(rig, "manifest.json"),
                    *old = rig_path(rig, "manifest.json.old"),
                    *obstacle = rig_path(rig, "manifest.json.old.partial"), *text = NULL,
                    *other = NULL, *kept = NULL;
    repository *r = rig_open(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    rig_add_member(r);
    rig_save(r);
    rig_add_member(r);
    rig_save(r);
    g_assert_true(g_file_get_contents(old, &kept, NULL, NULL));
    rig_put(rig, "vda/00001-inc.qcow2.partial", "x");
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(old, &other, NULL, NULL));
    g_assert_cmpstr(kept, ==, other); /* no whole file has gone */

    rig_put(rig, "vda/00000-full.1.qcow2", "x");
    g_assert_cmpint(g_mkdir(obstacle, 0700), ==, 0);
    g_assert_cmpint(repository_clean(r, NULL, NULL), ==, -1);
    g_assert_true(rig_has(rig, "vda/00000-full.1.qcow2"));
    g_assert_cmpint(rmdir(obstacle), ==, 0);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_false(rig_has(rig, "vda/00000-full.1.qcow2"));
    g_free(other);
    g_assert_true(g_file_get_contents(now, &text, NULL, NULL));
    g_assert_true(g_file_get_contents(old, &other, NULL, NULL));
    g_assert_cmpstr(text, ==, other);
    repository_close(r);
}

/* Folders that are none of ours do not hold it up. */
static void test_clean_others(struct rig *rig, gconstpointer unused)
{
    repository *r = rig_open(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    rig_put(rig, "lost+found/00009-full.qcow2", "x");
    rig_put(rig, "closed/00009-full.qcow2", "x");
    rig_put(rig, "vda/00009-full.qcow2", "x");
    rig_add_member(r);
    rig_save(r);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(rig_has(rig, "lost+found/00009-full.qcow2"));
    g_assert_true(rig_has(rig, "closed/00009-full.qcow2"));
    g_assert_false(rig_has(rig, "vda/00009-full.qcow2"));
    repository_close(r);
}

/* The folder of a disk may be on another file system: then what a cut run has left in it goes, too. */
static void test_clean_linked_folder(struct rig *rig, gconstpointer unused)
{
    g_autofree char *other = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_autofree char *folder = rig_path(rig, "vda"), *left = rig_path(rig, "vda/00001-inc.qcow2"),
                    *kept = rig_path(rig, "vda/00000-full.qcow2");
    repository *r = rig_open(rig, REPO_CREATE);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(symlink(other, folder), ==, 0);
    rig_put(rig, "vda/00000-full.qcow2", "x");
    rig_put(rig, "vda/00001-inc.qcow2", "x");
    rig_add_member(r);
    rig_save(r);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(rig_has(rig, "vda/00000-full.qcow2"));
    g_assert_false(rig_has(rig, "vda/00001-inc.qcow2"));
    g_assert_true(rig_has(rig, "vda"));
    g_unlink(kept);
    g_rmdir(other);
    repository_close(r);
}

/* Links that share a folder, or lead into another repository: whose file it is cannot be told, and it
 * stays. */
static void test_clean_shared_folder(struct rig *rig, gconstpointer unused)
{
    g_autofree char *vda = rig_path(rig, "repo/vda"), *vdb = rig_path(rig, "repo/vdb"),
                    *path = rig_path(rig, "repo");
    struct rig inner = {.path = path};
    g_autoptr(GError) error = NULL;
    repository *r;

    r = rig_open(&inner, REPO_CREATE);
    rig_put(rig, "disks/00000-full.qcow2", "x");
    rig_put(rig, "disks/00001-inc.qcow2", "x");
    g_assert_cmpint(symlink("../disks", vda), ==, 0);
    g_assert_cmpint(symlink("../disks", vdb), ==, 0);
    rig_add_member(r);
    rig_save(r);
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(rig_has(rig, "disks/00001-inc.qcow2"));
    g_unlink(vdb);
    rig_put(rig, "manifest.json", "{}");
    repository_clean(r, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(rig_has(rig, "disks/00001-inc.qcow2"));
    repository_close(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function)                                                                        \
    g_test_add("/repo-clean/" name, struct rig, NULL, rig_set_up, function, rig_tear_down)
    ADD("all", test_clean);
    ADD("links", test_clean_links);
    ADD("old", test_clean_old);
    ADD("others", test_clean_others);
    ADD("linked-folder", test_clean_linked_folder);
    ADD("shared-folder", test_clean_shared_folder);
    return g_test_run();
}
