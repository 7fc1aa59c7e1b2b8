/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that have their names only when they are whole. */
#include "client/base/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- calls, noted in their order ---- */

static GString *calls;    /* NULL: nobody wants to know */
static int failing_fsync; /* the one that fails, counted down; 0: none */

/* These stand before libc's. */
int fsync(int fd)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *path = g_file_read_link(link, NULL);
    g_autofree char *name = g_path_get_basename(path ? path : "?");

    if (calls)
        g_string_append_printf(calls, "fsync %s\n",
                               g_str_has_prefix(name, "disk") ? name : "folder");
    if (failing_fsync > 0 && --failing_fsync == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    if (calls)
        g_string_append(calls, "rename\n");
    return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* ---- a folder ---- */

struct folder {
    char *path, *file, *partial;
};

static void set_up(struct folder *f, gconstpointer data)
{
    f->path = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_assert_nonnull(f->path);
    f->file = g_build_filename(f->path, "disk", NULL);
    f->partial = g_build_filename(f->path, "disk.partial", NULL);
}

static void tear_down(struct folder *f, gconstpointer data)
{
    g_unlink(f->file);
    g_unlink(f->partial);
    g_assert_cmpint(g_rmdir(f->path), ==, 0); /* and nothing else is there */
    g_free(f->path);
    g_free(f->file);
    g_free(f->partial);
}

static void put(const char *path, const char *text)
{
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void assert_has(const char *path, const char *text)
{
    g_autofree char *found = NULL;

    g_assert_true(g_file_get_contents(path, &found, NULL, NULL));
    g_assert_cmpstr(found, ==, text);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static struct partial *begin(const char *path, bool replace)
{
    GError *error = NULL;
    struct partial *p = partial_new(path, replace, &error);

    g_assert_no_error(error);
    g_assert_cmpint(write(partial_fd(p), "new", 3), ==, 3);
    return p;
}

static void assert_refused(const char *path, bool replace, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(partial_new(path, replace, &error));
    g_assert_nonnull(strstr(error->message, why));
}

static void test_commit(struct folder *f, gconstpointer data)
{
    struct partial *p = begin(f->file, false);
    struct stat st;

    g_assert_cmpstr(partial_path(p), ==, f->partial);
    g_assert_false(exists(f->file));
    g_assert_true(exists(f->partial));
    g_assert_cmpint(partial_commit(p, NULL), ==, 0);
    assert_has(f->file, "new");
    g_assert_false(exists(f->partial));
    partial_free(p);
    assert_has(f->file, "new");
    g_assert_cmpint(g_stat(f->file, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
}

static void test_removed(struct folder *f, gconstpointer data)
{
    partial_free(begin(f->file, false));
    g_assert_false(exists(f->file));
    g_assert_false(exists(f->partial));
    partial_free(NULL);
}

static void test_kept(struct folder *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct partial *p;

    g_assert_null(partial_again(f->file, false, &error));
    g_assert_nonnull(strstr(error->message, "not there"));
    partial_keep(begin(f->file, false));
    assert_has(f->partial, "new");
    p = partial_again(f->file, false, NULL);
    g_assert_nonnull(p);
    g_assert_cmpint(pwrite(partial_fd(p), "er", 2, 3), ==, 2);
    g_assert_cmpint(partial_commit(p, NULL), ==, 0);
    partial_free(p);
    assert_has(f->file, "newer");
}

static void test_exists(struct folder *f, gconstpointer data)
{
    struct partial *p;

    put(f->file, "old");
    assert_refused(f->file, false, "it exists");
    g_assert_false(exists(f->partial));
    p = begin(f->file, true);
    assert_has(f->file, "old");
    partial_free(p);
    assert_has(f->file, "old");
    p = begin(f->file, true);
    g_assert_cmpint(partial_commit(p, NULL), ==, 0);
    partial_free(p);
    assert_has(f->file, "new");
}

/* A file that comes while the partial is written is not replaced. */
static void test_comes_meanwhile(struct folder *f, gconstpointer data)
{
    struct partial *p = begin(f->file, false);
    g_autoptr(GError) error = NULL;

    put(f->file, "other");
    g_assert_cmpint(partial_commit(p, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, f->file));
    partial_free(p);
    assert_has(f->file, "other");
    g_assert_false(exists(f->partial));
}

/* One that is left is replaced by a new file: who has the old one open does not see it. */
static void test_left(struct folder *f, gconstpointer data)
{
    struct partial *p;
    struct stat left, new;
    int fd;

    put(f->partial, "left of another time");
    fd = open(f->partial, O_RDONLY);
    g_assert_cmpint(fstat(fd, &left), ==, 0);
    p = begin(f->file, false);
    g_assert_cmpint(fstat(partial_fd(p), &new), ==, 0);
    g_assert_cmpint(new.st_size, ==, 3);
    g_assert_cmpint(fstat(fd, &left), ==, 0);
    g_assert_cmpint(left.st_size, ==, 20);
    g_assert_cmpint(left.st_nlink, ==, 0);
    close(fd);
    partial_free(p);
}

static void test_locked(struct folder *f, gconstpointer data)
{
    struct partial *p = begin(f->file, false);
    g_autoptr(GError) error = NULL;

    assert_refused(f->file, false, "another process is writing it");
    g_assert_null(partial_again(f->file, false, &error));
    assert_has(f->partial, "new");
    partial_free(p);
    g_assert_false(exists(f->partial));
}

static void test_no_file(struct folder *f, gconstpointer data)
{
    g_assert_cmpint(mkfifo(f->partial, 0600), ==, 0);
    assert_refused(f->file, false, "no regular file");
    g_assert_cmpint(g_unlink(f->partial), ==, 0);
    g_assert_cmpint(symlink("/dev/null", f->partial), ==, 0);
    assert_refused(f->file, false, f->partial);
    g_assert_cmpint(g_unlink(f->partial), ==, 0);
    assert_refused("/proc/none/such", false, "/proc/none/such");
}

/* It has its name when it is durable, and its name is durable when the commit is done. */
static void test_order(struct folder *f, gconstpointer data)
{
    for (int replace = 0; replace < 2; replace++) {
        struct partial *p = begin(f->file, replace);
        g_autoptr(GString) seen = g_string_new(NULL);

        calls = seen;
        g_assert_cmpint(partial_commit(p, NULL), ==, 0);
        calls = NULL;
        g_assert_cmpstr(seen->str, ==, "fsync disk.partial\nrename\nfsync folder\n");
        partial_free(p);
    }
}

static void test_sync_fails(struct folder *f, gconstpointer data)
{
    struct partial *p = begin(f->file, false);
    g_autoptr(GError) error = NULL;

    failing_fsync = 1;
    g_assert_cmpint(partial_commit(p, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "disk.partial: fsync"));
    g_assert_false(exists(f->file));
    partial_free(p);
    g_assert_false(exists(f->partial));
    g_clear_error(&error);

    p = begin(f->file, false);
    failing_fsync = 2; /* the folder's */
    g_assert_cmpint(partial_commit(p, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "may not have its name after a power cut"));
    partial_free(p);
    assert_has(f->file, "new");
}

/* Many processes at once: each that commits had the name, and nothing of another is in its file. */
static void run_racer(const struct folder *f, char letter)
{
    for (unsigned i = 0; i < 300; i++) {
        struct partial *p = partial_new(f->file, true, NULL);
        char text[64];
        ssize_t n;

        if (!p)
            continue;
        memset(text, letter, sizeof text);
        for (gsize done = 0; done < sizeof text; done += 8) {
            if (pwrite(partial_fd(p), text, 8, (off_t)done) != 8)
                _exit(1);
        }
        n = pread(partial_fd(p), text, sizeof text, 0);
        if (n != sizeof text || text[0] != letter || memcmp(text, text + 1, sizeof text - 1) != 0)
            _exit(2);
        if (i % 3 != 0 && partial_commit(p, NULL) < 0)
            _exit(3);
        partial_free(p);
    }
    _exit(0);
}

static void test_race(struct folder *f, gconstpointer data)
{
    g_autofree char *found = NULL;
    pid_t racers[4];
    gsize length;

    for (unsigned i = 0; i < G_N_ELEMENTS(racers); i++) {
        racers[i] = fork();
        g_assert_cmpint(racers[i], >=, 0);
        if (racers[i] == 0)
            run_racer(f, (char)('a' + (int)i));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(racers); i++) {
        int status;

        g_assert_cmpint(waitpid(racers[i], &status, 0), ==, racers[i]);
        g_assert_cmpint(status, ==, 0);
    }
    g_assert_true(g_file_get_contents(f->file, &found, &length, NULL));
    g_assert_cmpuint(length, ==, 64);
    g_assert_cmpint(memcmp(found, found + 1, length - 1), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function)                                                                        \
    g_test_add("/partial/" name, struct folder, NULL, set_up, function, tear_down)
    ADD("commit", test_commit);
    ADD("removed", test_removed);
    ADD("kept", test_kept);
    ADD("exists", test_exists);
    ADD("comes-meanwhile", test_comes_meanwhile);
    ADD("left", test_left);
    ADD("locked", test_locked);
    ADD("no-file", test_no_file);
    ADD("order", test_order);
    ADD("sync-fails", test_sync_fails);
    ADD("race", test_race);
#undef ADD
    return g_test_run();
}
