/* SPDX-License-Identifier: BSD-3-Clause */
/* State folders and the files in them. */
#include "common/state/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a folder for folders ---- */

struct place {
    char *top, *folder;
    struct storage *s;
};

static void place_begin(struct place *p)
{
    p->top = g_dir_make_tmp("folder-XXXXXX", NULL);
    g_assert_nonnull(p->top);
    p->folder = g_build_filename(p->top, "state", NULL);
    p->s = NULL;
}

static void remove_tree(const char *path)
{
    GDir *d = g_dir_open(path, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *inside = g_build_filename(path, name, NULL);

        if (g_file_test(inside, G_FILE_TEST_IS_DIR) && !g_file_test(inside, G_FILE_TEST_IS_SYMLINK))
            remove_tree(inside);
        else
            g_unlink(inside);
    }
    if (d)
        g_dir_close(d);
    g_assert_cmpint(g_rmdir(path), ==, 0);
}

static void close_storage(struct place *p)
{
    p->s->ops->free(p->s);
    p->s = NULL;
}

static void place_end(struct place *p)
{
    if (p->s)
        close_storage(p);
    remove_tree(p->top);
    g_free(p->top);
    g_free(p->folder);
}

static void open_storage(struct place *p, bool create)
{
    g_autoptr(GError) err = NULL;

    p->s = state_folder_open(p->folder, create, &err);
    g_assert_no_error(err);
    g_assert_nonnull(p->s);
}

/* The format has the folder's path for its %s. */
static void assert_refused(struct place *p, bool create, const char *format)
{
    g_autofree char *expected = g_strdup_printf(format, p->folder, p->folder);
    g_autoptr(GError) err = NULL;

    g_assert_null(state_folder_open(p->folder, create, &err));
    g_assert_cmpstr(err->message, ==, expected);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_mode & 07777;
}

/* A tmpfs of 1 MiB at the place's folder, that only this process sees. False: skipped. */
static bool mount_tmpfs(struct place *p)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        g_test_skip("file systems cannot be mounted here");
        return false;
    }
    if (mkdir(p->folder, 0700) < 0)
        g_assert_cmpint(errno, ==, EEXIST);
    g_assert_cmpint(mount("tmpfs", p->folder, "tmpfs", 0, "size=1m,mode=0700"), ==, 0);
    return true;
}

static void unmount(struct place *p)
{
    g_assert_cmpint(umount(p->folder), ==, 0);
}

/* ---- the folder ---- */

static void test_made(void)
{
    g_autofree char *lock = NULL, *deeper = NULL;
    struct place p;
    mode_t mask;

    place_begin(&p);
    mask = umask(0177);
    assert_refused(&p, false, "state: %s: there is no such folder");
    open_storage(&p, true);
    umask(mask);
    g_assert_cmpuint(mode_of(p.folder), ==, 0700);
    close_storage(&p);
    mask = umask(0);
    g_assert_cmpint(g_rmdir(p.folder), ==, -1); /* the lock is in it */
    open_storage(&p, false);
    umask(mask);
    close_storage(&p);
    lock = g_build_filename(p.folder, "lock", NULL);
    g_assert_cmpint(g_unlink(lock), ==, 0);
    g_assert_cmpint(g_rmdir(p.folder), ==, 0);
    deeper = g_strconcat(p.folder, "/deeper", NULL);
    g_free(p.folder);
    p.folder = g_steal_pointer(&deeper);
    assert_refused(&p, true, "state: %s: cannot be made: No such file or directory");
    place_end(&p);
}

static void test_others_can_write(void)
{
    static const struct {
        mode_t mode;
        const char *message;
    } cases[] = {
        {0775, "state: %s: others can write to it (mode 0775): chmod go-w %s"},
        {0702, "state: %s: others can write to it (mode 0702): chmod go-w %s"},
        {01777, "state: %s: others can write to it (mode 1777): chmod go-w %s"},
    };
    struct place p;

    place_begin(&p);
    g_assert_cmpint(mkdir(p.folder, 0700), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(chmod(p.folder, cases[i].mode), ==, 0);
        assert_refused(&p, true, cases[i].message);
    }
    g_assert_cmpint(chmod(p.folder, 0755), ==, 0);
    open_storage(&p, true);
    place_end(&p);
}

static void test_owner(void)
{
    struct place p;

    if (geteuid() != 0) {
        g_test_skip("only root can give a folder away");
        return;
    }
    place_begin(&p);
    g_assert_cmpint(mkdir(p.folder, 0700), ==, 0);
    g_assert_cmpint(chown(p.folder, 65534, 65534), ==, 0);
    assert_refused(&p, true,
                   "state: %s: it belongs to uid 65534, and this is uid 0: run it as that user");
    place_end(&p);
}

static void test_no_folder(void)
{
    g_autofree char *lock = NULL, *other = NULL;
    struct place p;

    place_begin(&p);
    g_assert_true(g_file_set_contents(p.folder, "x", 1, NULL));
    assert_refused(&p, true, "state: %s: this is no folder");
    g_assert_cmpint(g_unlink(p.folder), ==, 0);
    /* A symbolic link to a folder is followed, but none inside of it. */
    other = g_build_filename(p.top, "other", NULL);
    g_assert_cmpint(mkdir(other, 0700), ==, 0);
    g_assert_cmpint(symlink("other", p.folder), ==, 0);
    lock = g_build_filename(other, "lock", NULL);
    g_assert_cmpint(symlink("elsewhere", lock), ==, 0);
    assert_refused(&p, true, "state: %s/lock: Too many levels of symbolic links");
    g_assert_cmpint(g_unlink(lock), ==, 0);
    g_assert_cmpint(mkfifo(lock, 0600), ==, 0);
    assert_refused(&p, true, "state: %s/lock: this is no file");
    g_assert_cmpint(g_unlink(lock), ==, 0);
    open_storage(&p, true);
    place_end(&p);
}

static void test_read_only(void)
{
    struct place p;

    place_begin(&p);
    if (mount_tmpfs(&p)) {
        g_assert_cmpint(mount("tmpfs", p.folder, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
        assert_refused(&p, true, "state: %s: it cannot be written to: Read-only file system");
        unmount(&p);
    }
    place_end(&p);
}

/* ---- the lock ---- */

/* A process that holds the lock; it has it when this returns. */
static pid_t start_holder(struct place *p)
{
    int ready[2];
    char byte;
    pid_t pid;

    g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        if (state_folder_open(p->folder, true, NULL) && write(ready[1], "", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    return pid;
}

static void test_two_processes(void)
{
    g_autofree char *message = NULL;
    struct place p;
    pid_t holder;

    place_begin(&p);
    holder = start_holder(&p);
    message = g_strdup_printf("state: %%s: in use by process %d", (int)holder);
    assert_refused(&p, true, message);
    g_assert_cmpint(kill(holder, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(holder, NULL, 0), ==, holder);
    open_storage(&p, false);
    g_free(message);
    message = g_strdup_printf("state: %%s: in use by process %d", (int)getpid());
    assert_refused(&p, false, message);
    place_end(&p);
}

/* The pid of one that was killed is not taken for that of the present one. */
static void test_old_pid(void)
{
    g_autofree char *lock = NULL, *text = NULL;
    struct place p;
    pid_t holder;

    place_begin(&p);
    holder = start_holder(&p);
    g_assert_cmpint(kill(holder, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(holder, NULL, 0), ==, holder);
    open_storage(&p, false);
    lock = g_build_filename(p.folder, "lock", NULL);
    text = g_strdup_printf("%d\n", (int)holder);
    g_assert_cmpint(truncate(lock, 0), ==, 0);
    assert_refused(&p, false, "state: %s: in use by another process");
    place_end(&p);
}

/* ---- files ---- */

static bool no_fallocate; /* as on a file system that has none */

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (no_fallocate) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static void test_files(void)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const struct storage_ops *ops;
    struct storage_file *f;
    struct place p;
    char text[8] = "";
    uint64_t size;

    place_begin(&p);
    open_storage(&p, true);
    ops = p.s->ops;
    g_assert_cmpint(ops->open(p.s, "f", false, &f), ==, -ENOENT);
    g_assert_cmpint(ops->open(p.s, "f", true, &f), ==, 0);
    g_assert_cmpint(ops->write(f, "abc", 3, 5), ==, 0);
    g_assert_cmpint(ops->size(f, &size), ==, 0);
    g_assert_cmpuint(size, ==, 8);
    g_assert_cmpint(ops->read(f, text, 3, 5), ==, 0);
    g_assert_cmpstr(text, ==, "abc");
    g_assert_cmpint(ops->read(f, text, 4, 5), ==, -ENODATA);
    g_assert_cmpint(ops->sync(f), ==, 0);
    ops->close(f);
    g_assert_cmpint(ops->open(p.s, "f", true, &f), ==, -EEXIST);
    g_assert_cmpint(ops->make_folder(p.s, "bits"), ==, 0);
    g_assert_cmpint(ops->make_folder(p.s, "bits"), ==, 0);
    g_assert_cmpint(ops->make_folder(p.s, "f"), ==, -ENOTDIR);
    g_assert_cmpint(ops->rename(p.s, "f", "bits/g"), ==, 0);
    g_assert_cmpint(ops->sync_names(p.s, ""), ==, 0);
    g_assert_cmpint(ops->sync_names(p.s, "bits"), ==, 0);
    g_assert_cmpint(ops->list(p.s, "none", names), ==, 0);
    g_assert_cmpuint(names->len, ==, 0);
    g_assert_cmpint(ops->list(p.s, "bits", names), ==, 0);
    g_assert_cmpuint(names->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(names, 0), ==, "g");
    g_assert_cmpint(ops->unlink(p.s, "bits/g"), ==, 0);
    g_assert_cmpint(ops->unlink(p.s, "bits/g"), ==, -ENOENT);
    place_end(&p);
}

/* What is no file is not opened, and does not hold us up. */
static void test_no_files(void)
{
    g_autofree char *fifo = NULL, *link = NULL;
    struct storage_file *f;
    struct place p;

    place_begin(&p);
    open_storage(&p, true);
    fifo = g_build_filename(p.folder, "fifo", NULL);
    link = g_build_filename(p.folder, "link", NULL);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    g_assert_cmpint(symlink("lock", link), ==, 0);
    g_assert_cmpint(p.s->ops->make_folder(p.s, "bits"), ==, 0);
    g_assert_cmpint(p.s->ops->open(p.s, "fifo", false, &f), ==, -EINVAL);
    g_assert_cmpint(p.s->ops->open(p.s, "link", false, &f), ==, -ELOOP);
    g_assert_cmpint(p.s->ops->open(p.s, "bits", false, &f), ==, -EISDIR);
    place_end(&p);
}

static void test_map(void)
{
    struct storage_file *f;
    char *at, text[4] = "";
    void *mapped;
    struct place p;

    place_begin(&p);
    open_storage(&p, true);
    g_assert_cmpint(p.s->ops->open(p.s, "f", true, &f), ==, 0);
    g_assert_cmpint(p.s->ops->reserve(f, 3 * 4096), ==, 0);
    at = mmap(NULL, 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_cmpint(p.s->ops->map(f, 4096, 4096, at + 4096, &mapped), ==, 0);
    g_assert_true(mapped == at + 4096);
    memcpy(mapped, "abc", 3);
    g_assert_cmpint(p.s->ops->sync(f), ==, 0);
    g_assert_cmpint(p.s->ops->read(f, text, 3, 4096), ==, 0);
    g_assert_cmpstr(text, ==, "abc");
    p.s->ops->close(f);
    memcpy(mapped, "d", 1); /* the mapping is still there */
    p.s->ops->unmap(p.s, mapped, 4096);
    munmap(at, 4096);
    place_end(&p);
}

static void test_reserve(void)
{
    struct storage_file *f;
    struct place p;
    struct stat st;
    char text[4] = "", byte = 1, *path;

    place_begin(&p);
    open_storage(&p, true);
    for (unsigned i = 0; i < 2; i++) {
        no_fallocate = i == 1;
        g_assert_cmpint(p.s->ops->open(p.s, "f", true, &f), ==, 0);
        g_assert_cmpint(p.s->ops->write(f, "abc", 3, 100000), ==, 0);
        g_assert_cmpint(p.s->ops->reserve(f, 500001), ==, 0);
        g_assert_cmpint(p.s->ops->reserve(f, 500), ==, 0);
        g_assert_cmpint(p.s->ops->reserve(f, UINT64_MAX), ==, -EFBIG);
        g_assert_cmpint(p.s->ops->read(f, text, 3, 100000), ==, 0);
        g_assert_cmpstr(text, ==, "abc");
        g_assert_cmpint(p.s->ops->read(f, &byte, 1, 500000), ==, 0);
        g_assert_cmpint(byte, ==, 0);
        p.s->ops->close(f);
        path = g_build_filename(p.folder, "f", NULL);
        g_assert_cmpint(stat(path, &st), ==, 0);
        g_free(path);
        g_assert_cmpuint((uint64_t)st.st_size, ==, 500001);
        g_assert_cmpuint((uint64_t)st.st_blocks * 512, >=, 500001);
        g_assert_cmpint(p.s->ops->unlink(p.s, "f"), ==, 0);
    }
    no_fallocate = false;
    place_end(&p);
}

static void test_full(void)
{
    struct storage_file *f;
    struct place p;

    place_begin(&p);
    if (mount_tmpfs(&p)) {
        open_storage(&p, true);
        g_assert_cmpint(p.s->ops->open(p.s, "f", true, &f), ==, 0);
        g_assert_cmpint(p.s->ops->reserve(f, 2 << 20), ==, -ENOSPC);
        no_fallocate = true;
        g_assert_cmpint(p.s->ops->reserve(f, 2 << 20), ==, -ENOSPC);
        no_fallocate = false;
        p.s->ops->close(f);
        close_storage(&p);
        unmount(&p);
    }
    place_end(&p);
}

static void test_errors(void)
{
    g_autofree char *expected = NULL, *too_early = NULL;
    g_autoptr(GError) err = NULL, other = NULL;
    struct place p;

    place_begin(&p);
    open_storage(&p, true);
    g_assert_cmpint(storage_fail(p.s, "f", "read", -EIO, &err), ==, -1);
    expected = g_strdup_printf("state: %s/f: read: Input/output error", p.folder);
    g_assert_cmpstr(err->message, ==, expected);
    storage_fail(p.s, "f", "read", -ENODATA, &other);
    too_early = g_strdup_printf("state: %s/f: read: it ends too early", p.folder);
    g_assert_cmpstr(other->message, ==, too_early);
    place_end(&p);
}

static void test_machine(void)
{
    g_autofree char *boot = state_boot_id(), *machine = state_machine_id();

    g_assert_true(boot[0] == '\0' || g_uuid_string_is_valid(boot));
    g_assert_cmpuint(strlen(machine), <, 64);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/folder/made", test_made);
    g_test_add_func("/folder/others-can-write", test_others_can_write);
    g_test_add_func("/folder/owner", test_owner);
    g_test_add_func("/folder/no-folder", test_no_folder);
    g_test_add_func("/folder/two-processes", test_two_processes);
    g_test_add_func("/folder/old-pid", test_old_pid);
    g_test_add_func("/folder/files", test_files);
    g_test_add_func("/folder/no-files", test_no_files);
    g_test_add_func("/folder/map", test_map);
    g_test_add_func("/folder/reserve", test_reserve);
    g_test_add_func("/folder/errors", test_errors);
    g_test_add_func("/folder/machine", test_machine);
    g_test_add_func("/folder/read-only", test_read_only);
    g_test_add_func("/folder/full", test_full);
    return g_test_run();
}
