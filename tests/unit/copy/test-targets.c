/* SPDX-License-Identifier: BSD-3-Clause */
/* The targets of this machine: files with their holes, a block device, pipes, sockets. */
#include "common/copy/targets.h"
#include "tests/backend/harness.h"
#include "tests/backend/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pthread.h>

#define KiB (UINT64_C(1) << 10)
#define MiB (UINT64_C(1) << 20)

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i * 31 + (i >> 8)) | 1;
}

static uint8_t *make_pattern(size_t n)
{
    uint8_t *bytes = g_malloc(n);

    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(i);
    return bytes;
}

static int new_file(char **name, uint64_t size)
{
    int fd = g_file_open_tmp("test-targets-XXXXXX", name, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

static void write_ok(struct copy_target *t, uint64_t offset, size_t length, uint8_t *data)
{
    struct copy_piece pieces[2] = {{offset, length / 2, data},
                                   {offset + length / 2, length - length / 2, data + length / 2}};
    GError *err = NULL;

    g_assert_cmpint(t->ops->write(t, 0, pieces, 2, &err), ==, 0);
    g_assert_no_error(err);
}

static void zero_ok(struct copy_target *t, uint64_t offset, uint64_t length)
{
    GError *err = NULL;

    g_assert_cmpint(t->ops->zero(t, 0, offset, length, &err), ==, 0);
    g_assert_no_error(err);
}

static void finish_ok(struct copy_target *t)
{
    GError *err = NULL;

    g_assert_cmpint(t->ops->finish(t, &err), ==, 0);
    g_assert_no_error(err);
}

/* Zero at [from, to), the pattern elsewhere. */
static void check_file(int fd, uint64_t size, uint64_t from, uint64_t to)
{
    g_autofree uint8_t *bytes = g_malloc(size);

    g_assert_cmpint(pread(fd, bytes, size, 0), ==, (ssize_t)size);
    for (uint64_t i = 0; i < size; i++)
        g_assert_cmphex(bytes[i], ==, i >= from && i < to ? 0 : pattern(i));
}

/* ---- raw ---- */

/* Zeroes that do not end at pages, in a file that has data: they are zeroes, pages become a hole,
 * and its size stays. */
static void test_zero_in_file(void)
{
    g_autofree char *name = NULL;
    g_autofree uint8_t *data = make_pattern(MiB);
    int fd = new_file(&name, MiB);
    GError *err = NULL;
    struct copy_target *t = target_raw_new(fd, name, MiB, false, &err);

    g_assert_no_error(err);
    write_ok(t, 0, MiB, data);
    g_assert_cmpint(t->ops->sync(t, &err), ==, 0);
    zero_ok(t, 100, 700 * KiB);
    finish_ok(t);
    check_file(fd, MiB, 100, 100 + 700 * KiB);
    g_assert_cmpint(lseek(fd, 0, SEEK_HOLE), <=, (off_t)(64 * KiB));
    copy_target_free(t);
    close(fd);
    g_unlink(name);
}

/* The file's end may be a zero range, too, and is not cut. */
static void test_zero_at_end(void)
{
    g_autofree char *name = NULL;
    g_autofree uint8_t *data = make_pattern(100001);
    int fd = new_file(&name, 100001);
    struct copy_target *t = target_raw_new(fd, name, 100001, false, NULL);

    write_ok(t, 0, 100001, data);
    zero_ok(t, 50000, 50001);
    finish_ok(t);
    check_file(fd, 100001, 50000, 100001);
    g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, 100001);
    copy_target_free(t);
    close(fd);
    g_unlink(name);
}

/* In a file that is clean nothing is done for zeroes: it stays as sparse as it was. */
static void test_clean(void)
{
    g_autofree char *name = NULL;
    g_autofree uint8_t *data = make_pattern(64 * KiB);
    int fd = new_file(&name, 8 * MiB);
    struct copy_target *t = target_raw_new(fd, name, 8 * MiB, true, NULL);
    struct stat st;

    write_ok(t, 0, 64 * KiB, data);
    zero_ok(t, 64 * KiB, 8 * MiB - 64 * KiB);
    finish_ok(t);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <=, (off_t)MiB);
    check_file(fd, 8 * MiB, 64 * KiB, 8 * MiB);
    copy_target_free(t);
    close(fd);
    g_unlink(name);
}

/* A file that is open for reading, one that is too short, what is no file. */
static void test_raw_errors(void)
{
    g_autofree char *name = NULL;
    uint8_t byte = 1;
    struct copy_piece piece = {7, 1, &byte};
    int fd = new_file(&name, 4096), reading = open(name, O_RDONLY | O_CLOEXEC), pipes[2];
    g_autoptr(GError) err = NULL;
    struct copy_target *t;

    g_assert_null(target_raw_new(fd, name, 4097, false, &err));
    g_assert_nonnull(strstr(err->message, name));
    g_assert_nonnull(strstr(err->message, "4096"));
    g_clear_error(&err);

    t = target_raw_new(reading, name, 4096, false, &err);
    g_assert_no_error(err);
    g_assert_cmpint(t->ops->write(t, 0, &piece, 1, &err), <, 0);
    g_assert_nonnull(strstr(err->message, name));
    g_assert_nonnull(strstr(err->message, "at 7"));
    g_clear_error(&err);
    g_assert_cmpint(t->ops->zero(t, 0, 0, 4096, &err), <, 0);
    g_assert_nonnull(strstr(err->message, name));
    g_clear_error(&err);
    copy_target_free(t);

    g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
    g_assert_null(target_raw_new(pipes[1], "a pipe", 0, false, &err));
    g_assert_nonnull(strstr(err->message, "a pipe"));
    close(pipes[0]);
    close(pipes[1]);
    close(reading);
    close(fd);
    g_unlink(name);
}

static void test_device(void)
{
    g_autofree char *backing = harness_file("backing", MiB, NULL, 0);
    g_autofree uint8_t *data = make_pattern(MiB);
    g_autoptr(GError) err = NULL;
    struct copy_target *t;
    struct loop loop;
    int fd;

    if (!loop_take(&loop, backing, 4096, false))
        return;
    fd = open(loop.path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    t = target_raw_new(fd, loop.path, MiB, false, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(t->align, ==, 4096);
    write_ok(t, 0, MiB, data);
    zero_ok(t, 4096, 704 * KiB);
    finish_ok(t);
    check_file(fd, MiB, 4096, 4096 + 704 * KiB);
    copy_target_free(t);

    g_assert_null(target_raw_new(fd, loop.path, 2 * MiB, false, &err));
    g_assert_nonnull(strstr(err->message, "1048576"));
    close(fd);
    loop_release(&loop);
}

/* ---- pipes ---- */

/* GLib's threads are not seen by TSan. */
static pthread_t begin_thread(void *(*function)(void *), void *opaque)
{
    pthread_t thread;

    g_assert_cmpint(pthread_create(&thread, NULL, function, opaque), ==, 0);
    return thread;
}

struct reader {
    int fd;
    GByteArray *bytes;
};

static void *read_all(void *opaque)
{
    struct reader *r = opaque;
    guint8 buffer[10000];
    ssize_t n;

    while ((n = read(r->fd, buffer, sizeof buffer)) > 0)
        g_byte_array_append(r->bytes, buffer, (guint)n);
    return NULL;
}

/* Data, zeroes, what is not told, and the end come out as one stream. */
static void stream_through(int out, int in)
{
    g_autofree uint8_t *data = make_pattern(2 * MiB);
    struct reader r = {in, g_byte_array_new()};
    pthread_t thread = begin_thread(read_all, &r);
    g_autoptr(GError) err = NULL;
    struct copy_target *t = target_pipe_new(out, "a stream", 2 * MiB, &err);

    g_assert_no_error(err);
    g_assert_true(t->ordered);
    write_ok(t, 0, 300 * KiB + 1, data);
    zero_ok(t, 400 * KiB, 100 * KiB);
    write_ok(t, 600 * KiB, 100, data + 600 * KiB);
    finish_ok(t);
    copy_target_free(t);
    close(out);
    pthread_join(thread, NULL);
    close(in);
    g_assert_cmpuint(r.bytes->len, ==, 2 * MiB);
    for (uint64_t i = 0; i < 2 * MiB; i++) {
        bool is_data = i < 300 * KiB + 1 || (i >= 600 * KiB && i < 600 * KiB + 100);

        g_assert_cmphex(r.bytes->data[i], ==, is_data ? pattern(i) : 0);
    }
    g_byte_array_unref(r.bytes);
}

static void test_pipe(void)
{
    int fds[2];

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    stream_through(fds[1], fds[0]);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    stream_through(fds[1], fds[0]);
}

/* A file that is only appended to. */
static void test_append(void)
{
    g_autofree char *name = NULL;
    g_autofree uint8_t *data = make_pattern(MiB);
    int fd = new_file(&name, 0);
    struct copy_target *t = target_pipe_new(fd, name, MiB, NULL);

    write_ok(t, 0, MiB - 5000, data);
    finish_ok(t);
    copy_target_free(t);
    check_file(fd, MiB, MiB - 5000, MiB);
    close(fd);
    g_unlink(name);
}

/* Nobody reads any more: an error, and this process goes on. What is below cannot come again. */
static void test_pipe_errors(void)
{
    uint8_t bytes[100] = {0};
    struct copy_piece piece = {0, sizeof bytes, bytes};
    g_autoptr(GError) err = NULL;
    struct copy_target *t;
    int fds[2];

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    t = target_pipe_new(fds[1], "the pipe", 1000, &err);
    write_ok(t, 0, sizeof bytes, bytes);
    g_assert_cmpint(t->ops->write(t, 0, &piece, 1, &err), <, 0);
    g_assert_nonnull(strstr(err->message, "cannot go back"));
    g_clear_error(&err);
    close(fds[0]);
    piece.offset = 100;
    g_assert_cmpint(t->ops->write(t, 0, &piece, 1, &err), <, 0);
    g_assert_nonnull(strstr(err->message, "the pipe"));
    g_assert_nonnull(strstr(err->message, g_strerror(EPIPE)));
    g_clear_error(&err);
    g_assert_cmpint(t->ops->finish(t, &err), <, 0);
    copy_target_free(t);
    close(fds[1]);
}

struct canceller {
    struct copy_target *target;
    int fd; /* the pipe's reading end */
};

/* Wait until something has come, so that the writer has begun, and fills the pipe. */
static void *cancel_when_begun(void *opaque)
{
    struct canceller *c = opaque;
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};

    while (poll(&fd, 1, -1) < 0)
        ;
    c->target->ops->cancel(c->target);
    return NULL;
}

/* A reader that does not read: cancel ends the wait. */
static void test_pipe_cancel(void)
{
    g_autofree uint8_t *data = make_pattern(MiB);
    struct copy_piece piece = {0, MiB, data};
    g_autoptr(GError) err = NULL;
    struct copy_target *t;
    struct canceller c;
    pthread_t thread;
    int fds[2];

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    t = target_pipe_new(fds[1], "the pipe", MiB, &err);
    c = (struct canceller){t, fds[0]};
    thread = begin_thread(cancel_when_begun, &c);
    g_assert_cmpint(t->ops->write(t, 0, &piece, 1, &err), <, 0);
    g_assert_nonnull(strstr(err->message, "cancelled"));
    pthread_join(thread, NULL);
    copy_target_free(t);
    close(fds[0]);
    close(fds[1]);
}

/* ---- null ---- */

static void test_null(void)
{
    uint8_t bytes[100] = {0};
    struct copy_target *t = target_null_new(1000);

    g_assert_cmpuint(t->size, ==, 1000);
    write_ok(t, 0, sizeof bytes, bytes);
    zero_ok(t, 500, 500);
    finish_ok(t);
    copy_target_free(t);
}

static void add_tests(void)
{
    g_test_add_func("/targets/zero-in-file", test_zero_in_file);
    g_test_add_func("/targets/zero-at-end", test_zero_at_end);
    g_test_add_func("/targets/clean", test_clean);
    g_test_add_func("/targets/raw-errors", test_raw_errors);
    g_test_add_func("/targets/device", test_device);
    g_test_add_func("/targets/pipe", test_pipe);
    g_test_add_func("/targets/append", test_append);
    g_test_add_func("/targets/pipe-errors", test_pipe_errors);
    g_test_add_func("/targets/pipe-cancel", test_pipe_cancel);
    g_test_add_func("/targets/null", test_null);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
