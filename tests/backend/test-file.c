/* SPDX-License-Identifier: BSD-3-Clause */
/* Our file plugin, driven as the server drives it. */
#include "tests/backend/file-disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* "d4096 h4096 ..." */
static char *map(struct disk *d, uint64_t length, uint64_t offset, uint32_t flags)
{
    struct extents e = EXTENTS_INIT;
    GString *text = g_string_new(NULL);

    g_assert_cmpint(d->b->ops->extents(d->h, length, offset, flags, &e), ==, 0);
    for (size_t i = 0; i < e.count; i++)
        g_string_append_printf(text, "%s%s%" G_GUINT64_FORMAT, i ? " " : "",
                               e.list[i].flags == (EXTENT_HOLE | EXTENT_ZERO) ? "h"
                               : e.list[i].flags                              ? "?"
                                                                              : "d",
                               e.list[i].length);
    extents_free(&e);
    return g_string_free(text, FALSE);
}

/* ---- data ---- */

static void test_basics(void)
{
    g_autofree char *path = harness_file("basics", 4 * MIB, NULL, 0);
    struct disk d = open_disk(path, NULL); /* a bare word: file is the magic key */

    g_assert_cmpuint(d.h->size, ==, 4 * MIB);
    g_assert_true(d.h->can_write && d.h->can_flush && d.h->can_trim && d.h->can_zero &&
                  d.h->can_fast_zero && d.h->can_fua && d.h->can_cache && d.h->can_multi_conn);
    g_assert_false(d.h->has_block_size || d.h->rotational);
    g_assert_cmpint(d.h->fd, >=, 0);
    g_assert_cmpstr(d.b->driver, ==, "file");
    g_assert_cmpstr(d.b->filename, ==, path);

    write_pattern(&d, 1, 1000, 3, 0);
    write_pattern(&d, 2, 5000, 100000, BACKEND_FUA);
    assert_pattern(&d, 1, 1000, 3);
    assert_pattern(&d, 2, 5000, 100000);
    assert_pattern(&d, 0, 3, 0);
    g_assert_cmpint(d.b->ops->flush(d.h), ==, 0);
    g_assert_cmpint(d.b->ops->cache(d.h, MIB, 0), ==, 0);
    char c = 0;
    g_assert_cmpint(pread(d.h->fd, &c, 1, 100000), ==, 1);
    g_assert_cmpint(c, ==, 2);
    close_disk(&d);
}

static void test_errors(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *path = harness_file("short", 4096, NULL, 0);
    char buf[512];

    g_assert_null(harness_try(&err, "file", NULL));
    assert_contains(err->message, "disk vda: file: file=FILE is missing");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "file", "file", "/x", "dir", "/y", NULL));
    assert_contains(err->message, "dir=/y: one of file=, fd=, dir= and dirfd= is given already");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "file", "file", "/x", "files", "/y", NULL));
    assert_contains(err->message, "unknown key 'files'");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "file", "file", "/x", "cache", "some", NULL));
    assert_contains(err->message, "cache=some: not one of default, none");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "file", "fadvise", "later", NULL));
    assert_contains(err->message, "fadvise=later");
    g_clear_error(&err);
    struct backend *b = harness_load("file", "file", "/nonexistent/disk.raw", NULL);
    g_autofree char *missing = harness_open_error(b, false);
    g_assert_cmpstr(missing, ==,
                    "disk vda: file: open: /nonexistent/disk.raw: No such file or directory");
    harness_free(b);
    b = harness_load("file", "file", harness_dir(), NULL);
    g_autofree char *folder = harness_open_error(b, true);
    assert_contains(folder, "neither a regular file nor a block device");
    harness_free(b);
    b = harness_load("file", "file", "/dev/null", NULL);
    g_autofree char *null = harness_open_error(b, false);
    assert_contains(null, "neither a regular file nor a block device");
    harness_free(b);

    /* A file that somebody makes shorter meanwhile. */
    struct disk d = open_disk(path, NULL);
    g_assert_cmpint(truncate(path, 100), ==, 0);
    harness_log_begin();
    g_assert_cmpint(d.b->ops->pread(d.h, buf, 512, 0), ==, -EIO);
    g_autofree char *log = harness_log_end();
    assert_contains(log, "read of 512 bytes at 0");
    close_disk(&d);
}

static void test_tail(void)
{
    g_autofree char *path = harness_file("tail", 1000, NULL, 0);
    struct disk d = open_disk(path, NULL);
    struct stat st;

    g_assert_cmpuint(d.h->size, ==, 1000);
    write_pattern(&d, 3, 1000, 0, 0);
    g_assert_cmpint(d.b->ops->zero(d.h, 500, 500, BACKEND_MAY_TRIM), ==, 0);
    assert_pattern(&d, 3, 500, 0);
    assert_pattern(&d, 0, 500, 500);
    write_pattern(&d, 4, 1, 999, 0);
    g_assert_cmpint(d.b->ops->trim(d.h, 999, 0, 0), ==, 0);
    assert_pattern(&d, 4, 1, 999);
    g_autofree char *m = map(&d, 1000, 0, 0);
    g_assert_true(!strcmp(m, "d1000") || !strcmp(m, "h1000"));
    close_disk(&d);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 1000);
}

static void test_readonly(void)
{
    g_autofree char *path = harness_file("readonly", 4096, NULL, 0);
    struct backend *b = harness_load("file", "file", path, NULL);
    struct backend_handle *h;

    g_assert_cmpint(b->ops->open(b, true, NULL, &h, NULL), ==, 0);
    g_assert_false(h->can_write || h->can_trim || h->can_fua);
    g_assert_cmpint(fcntl(h->fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
    g_assert_cmpint(b->ops->flush(h), ==, 0);
    harness_close(h);
    harness_free(b);

    /* Somebody who may only read it: root may always write. */
    g_assert_cmpint(chmod(path, 0444), ==, 0);
    bool root = geteuid() == 0;
    b = harness_load("file", "file", path, NULL); /* by the user who may enter the build folder */
    if (root) {
        g_assert_cmpint(chmod(harness_dir(), 0755), ==, 0);
        g_assert_cmpint(seteuid(65534), ==, 0);
    }
    struct disk d = {.b = b, .h = harness_open(b)};
    g_assert_cmpint(seteuid(getuid()), ==, 0);
    g_assert_false(d.h->can_write);
    assert_pattern(&d, 0, 512, 0);
    close_disk(&d);
}

/* ---- holes ---- */

static void test_holes(void)
{
    g_autofree char *path = harness_file("holes", 8 * MIB, NULL, 0);
    struct disk d = open_disk(path, NULL);

    if (!d.h->can_extents) {
        close_disk(&d);
        g_test_skip("this file system does not tell holes");
        return;
    }
    write_pattern(&d, 1, MIB, MIB, 0);
    write_pattern(&d, 1, 65536, 4 * MIB, 0);
    g_autofree char *whole = map(&d, 8 * MIB, 0, 0);
    g_assert_cmpstr(whole, ==, "h1048576 d1048576 h2097152 d65536 h4128768");
    g_autofree char *part = map(&d, 2 * MIB, MIB + 4096, 0);
    g_assert_cmpstr(part, ==, "d1044480 h1052672");
    g_autofree char *one = map(&d, 8 * MIB, 0, BACKEND_REQ_ONE);
    g_assert_cmpstr(one, ==, "h1048576");

    uint64_t before = allocated(path);
    g_assert_cmpint(d.b->ops->trim(d.h, MIB / 2, MIB, 0), ==, 0);
    g_assert_cmpuint(allocated(path), <=, before - MIB / 2);
    assert_pattern(&d, 0, MIB / 2, MIB);
    assert_pattern(&d, 1, MIB / 2, MIB + MIB / 2);

    /* A zero that may trim makes a hole; one that may not leaves the space allocated. */
    g_assert_cmpint(d.b->ops->zero(d.h, MIB / 2, MIB + MIB / 2, BACKEND_MAY_TRIM | BACKEND_FUA), ==,
                    0);
    g_autofree char *trimmed = map(&d, 8 * MIB, 0, 0);
    g_assert_cmpstr(trimmed, ==, "h4194304 d65536 h4128768");
    before = allocated(path);
    g_assert_cmpint(d.b->ops->zero(d.h, MIB, 6 * MIB, BACKEND_FAST), ==, 0);
    g_assert_cmpuint(allocated(path), >=, before + MIB);
    assert_pattern(&d, 0, MIB, 6 * MIB);

    /* Up to the last byte, and not further. */
    write_pattern(&d, 2, MIB, 7 * MIB - 4096, 0);
    g_assert_cmpint(d.b->ops->zero(d.h, MIB - 4096, 7 * MIB + 4096, 0), ==, 0);
    assert_pattern(&d, 2, 4096, 7 * MIB - 4096);
    g_assert_cmpuint(file_size(path), ==, 8 * MIB);
    close_disk(&d);
}

/* The same on a file system without ZERO_RANGE (tmpfs), where it is done in other ways. */
static void test_holes_tmpfs(void)
{
    g_autofree char *path = g_strdup("/dev/shm/nbdfleece-test-XXXXXX");
    int fd = g_mkstemp(path);

    if (fd < 0) {
        g_test_skip("no /dev/shm");
        return;
    }
    g_assert_cmpint(ftruncate(fd, 4 * MIB), ==, 0);
    struct disk d = open_disk(path, NULL);
    write_pattern(&d, 5, 2 * MIB, 0, 0);
    g_assert_cmpint(d.b->ops->zero(d.h, MIB, 0, BACKEND_FAST), ==, 0);
    assert_pattern(&d, 0, MIB, 0);
    assert_pattern(&d, 5, MIB, MIB);
    g_assert_cmpuint(allocated(path), >=, 2 * MIB);
    g_assert_cmpint(d.b->ops->zero(d.h, MIB, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpuint(allocated(path), ==, MIB);
    close_disk(&d);
    unlink(path);
    close(fd);
}

/* ---- direct I/O ---- */

static bool has_direct_io(const char *path)
{
    int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

    if (fd < 0) {
        g_test_skip("this file system has no direct I/O");
        return false;
    }
    close(fd);
    return true;
}

static void test_direct(void)
{
    g_autofree char *path = harness_file("direct", 8 * MIB, NULL, 0);
    g_autofree char *memory = g_malloc(5 * MIB), *back = g_malloc(5 * MIB);

    if (!has_direct_io(path))
        return;
    struct disk d = open_disk("file", path, "direct", "true");
    uint32_t block = d.h->min_block;
    g_assert_true(d.h->has_block_size);
    g_assert_true(block >= 512 && block <= 4096);
    g_assert_cmpint(d.h->fd, ==, -1);
    /* Any alignment of the memory, in pieces larger than the bounce buffer too. */
    for (unsigned skew = 0; skew < 3; skew++) {
        uint32_t length = (uint32_t)(4 * MIB + block);
        for (uint32_t i = 0; i < length; i++)
            memory[skew + i] = (char)(i * 7 + i / 4096 + skew);
        g_assert_cmpint(
            d.b->ops->pwrite(d.h, memory + skew, length, block * 3, skew == 2 ? BACKEND_FUA : 0),
            ==, 0);
        memset(back, 0, 5 * MIB);
        g_assert_cmpint(d.b->ops->pread(d.h, back + 5 - skew, length, block * 3), ==, 0);
        g_assert_cmpmem(memory + skew, length, back + 5 - skew, length);
    }
    g_assert_cmpint(d.b->ops->zero(d.h, 2 * block, 4 * block, 0), ==, 0);
    assert_pattern(&d, 0, 2 * block, 4 * block);
    g_assert_cmpint(d.b->ops->flush(d.h), ==, 0);
    close_disk(&d);
}

static void test_direct_tail(void)
{
    g_autofree char *path = harness_file("direct-tail", 10000, NULL, 0);
    char c;

    if (!has_direct_io(path))
        return;
    struct disk d = open_disk("file", path, "direct", "1");
    g_assert_cmpuint(d.h->min_block, ==, 1);
    write_pattern(&d, 6, 8192, 0, 0);
    write_pattern(&d, 7, 1808, 8192, 0);
    write_pattern(&d, 8, 100, 50, BACKEND_FUA);
    assert_pattern(&d, 6, 50, 0);
    assert_pattern(&d, 8, 100, 50);
    assert_pattern(&d, 6, 8192 - 150, 150);
    assert_pattern(&d, 7, 1808, 8192);
    close_disk(&d);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(pread(fd, &c, 1, 9999), ==, 1);
    g_assert_cmpint(c, ==, 7);
    g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, 10000);
    close(fd);
}

/* All handles of an image have one minimum, also when its size has become a multiple. */
static void test_direct_minimum_stays(void)
{
    g_autofree char *path = harness_file("direct-minimum", 10000, NULL, 0);
    static const struct backend_client client = {.export_name = "", .socket = -1};
    struct backend_handle *later;

    if (!has_direct_io(path))
        return;
    struct disk d = open_disk("file", path, "direct", "1");
    g_assert_cmpint(d.b->ops->resize(d.h, 12288, NULL), ==, 0);
    g_assert_cmpint(d.b->ops->open(d.b, false, &client, &later, NULL), ==, 0);
    g_assert_cmpuint(later->min_block, ==, 1);
    d.b->ops->close(later);
    close_disk(&d);
}

/* Aligned and unaligned writers on one page: no write is lost. (nbdkit's blocksize filter once lost
 * some.) */
struct writer {
    struct disk *d;
    uint32_t length;
    uint64_t offset;
};

static void *write_many(void *opaque)
{
    struct writer *w = opaque;

    for (int i = 1; i <= 100; i++) {
        write_pattern(w->d, i, w->length, w->offset, 0);
        assert_pattern(w->d, i, w->length, w->offset);
    }
    return NULL;
}

static void test_direct_mixed(void)
{
    g_autofree char *path = harness_file("direct-mixed", 4096 + 77, NULL, 0);

    if (!has_direct_io(path))
        return;
    struct disk d = open_disk("file", path, "direct", "1");
    struct writer writers[] = {{&d, 512, 0}, {&d, 100, 600}, {&d, 512, 1024}, {&d, 300, 3000}};
    pthread_t threads[G_N_ELEMENTS(writers)];
    for (size_t i = 0; i < G_N_ELEMENTS(writers); i++)
        pthread_create(&threads[i], NULL, write_many, &writers[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(writers); i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(writers); i++)
        assert_pattern(&d, 100, writers[i].length, writers[i].offset);
    close_disk(&d);
}

/* ---- size ---- */

static void test_resize(void)
{
    g_autofree char *path = harness_file("resize", MIB, NULL, 0);
    struct disk d = open_disk(path, NULL);
    struct stat st;

    g_assert_nonnull(d.b->ops->resize);
    g_assert_cmpint(d.b->ops->resize(d.h, 3 * MIB, NULL), ==, 0);
    write_pattern(&d, 9, 4096, 3 * MIB - 4096, 0);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 3 * MIB);
    g_assert_cmpint(d.b->ops->resize(d.h, 1000, NULL), ==, 0);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 1000);
    close_disk(&d);
}

/* Run a program; true if it succeeds. *output: stderr (and stdout). */
static bool run(char **output, const char *const *argv)
{
    int status = -1;
    g_autofree char *out = NULL, *errors = NULL;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                               &errors, &status, NULL));
    *output = g_strconcat(errors, out, NULL);
    return status == 0;
}

/* ---- QEMU's locks ---- */

static bool have(const char *program)
{
    g_autofree char *path = g_find_program_in_path(program);

    if (!path)
        g_test_skip("qemu-utils are not installed");
    return path != NULL;
}

static void test_locks_refuse_qemu(void)
{
    g_autofree char *path = harness_file("locked", MIB, NULL, 0);
    /* qemu-img info would not do: it needs no permission on a raw image. */
    g_autofree char *copy = g_strconcat(path, ".copy", NULL);
    const char *convert[] = {"qemu-img", "convert", "-f", "raw", "-O", "raw", path, copy, NULL};
    const char *convert_shared[] = {"qemu-img", "convert", "-U", "-f", "raw",
                                    "-O",       "raw",     path, copy, NULL};
    const char *write[] = {"qemu-io", "-f", "raw", "-c", "write 0 512", path, NULL};
    const char *read[] = {"qemu-io", "-r", "-f", "raw", "-c", "read 0 512", path, NULL};

    if (!have("qemu-img") || !have("qemu-io"))
        return;
    struct disk d = open_disk(path, NULL);
    struct backend_handle *second = harness_open(d.b); /* our own handles do not lock us out */
    g_autofree char *o1 = NULL, *o2 = NULL, *o3 = NULL, *o4 = NULL, *o5 = NULL, *o6 = NULL;
    g_assert_false(run(&o1, convert));
    assert_contains(o1, "lock");
    g_assert_true(run(&o2, convert_shared));
    g_assert_false(run(&o3, write));
    assert_contains(o3, "lock");

    /* Another disk on the same file is refused as QEMU is. */
    struct backend *other = harness_load("file", "file", path, NULL);
    g_autofree char *error = harness_open_error(other, false);
    assert_contains(error, path);
    assert_contains(error, "locking=off");
    harness_free(other);
    struct disk unlocked = open_disk("file", path, "locking", "off");
    close_disk(&unlocked);

    harness_close(second);
    g_assert_false(run(&o4, write));
    close_disk(&d);
    g_assert_true(run(&o5, write));

    /* We read: others may read, and not write. */
    struct backend *b = harness_load("file", "file", path, NULL);
    struct backend_handle *h;
    g_assert_cmpint(b->ops->open(b, true, NULL, &h, NULL), ==, 0);
    g_autofree char *o7 = NULL;
    g_assert_true(run(&o6, read));
    g_assert_false(run(&o7, write));
    harness_close(h);
    harness_free(b);
}

static void test_locks_respect_qemu(void)
{
    g_autofree char *path = harness_file("theirs", MIB, NULL, 0);
    const char *argv[] = {"qemu-io", "-f", "raw", path, NULL};
    g_autoptr(GError) err = NULL;
    int in, out;
    GPid pid;
    char c;

    if (!have("qemu-io"))
        return;
    g_assert_true(g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                           G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                           NULL, &pid, &in, &out, NULL, &err));
    g_assert_no_error(err);
    g_assert_cmpint(read(out, &c, 1), ==, 1); /* its prompt: the image is open */
    struct backend *b = harness_load("file", "file", path, NULL);
    g_autofree char *error = harness_open_error(b, false);
    g_test_message("%s", error);
    assert_contains(error, path);
    assert_contains(error, "QEMU");
    g_autofree char *readonly = harness_open_error(b, true);
    assert_contains(readonly, "permission to write");
    close(in);
    close(out);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    harness_close(harness_open(b)); /* now it works */
    harness_free(b);
}

static void add_tests(void)
{
    g_test_add_func("/file/basics", test_basics);
    g_test_add_func("/file/errors", test_errors);
    g_test_add_func("/file/tail", test_tail);
    g_test_add_func("/file/readonly", test_readonly);
    g_test_add_func("/file/holes/file", test_holes);
    g_test_add_func("/file/holes/tmpfs", test_holes_tmpfs);
    g_test_add_func("/file/direct/memory", test_direct);
    g_test_add_func("/file/direct/tail", test_direct_tail);
    g_test_add_func("/file/direct/minimum-stays", test_direct_minimum_stays);
    g_test_add_func("/file/direct/mixed", test_direct_mixed);
    g_test_add_func("/file/resize", test_resize);
    g_test_add_func("/file/locks/refuse-qemu", test_locks_refuse_qemu);
    g_test_add_func("/file/locks/respect-qemu", test_locks_respect_qemu);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
