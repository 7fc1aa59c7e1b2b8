/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file plugin on a file system that fails. This program has functions of its own in place of
 * libc's wrappers of system calls: the plugin that it loads finds these first.
 */
#include "tests/backend/harness.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- faults ---- */

static struct {
    int sync_error;  /* of fdatasync; 0: none */
    int range_error; /* of sync_file_range that waits */
    int write_error; /* of pwritev2 with `write_error_flags` */
    int write_error_flags;
    bool short_io;      /* every second call is interrupted, the others do a few bytes */
    int allocate_error; /* of fallocate, in the modes that `allocate_modes` has bits of */
    int allocate_modes;
    unsigned syncs, writes, reads, allocations; /* calls */
    int open_error;                             /* of open for writing */
    bool device;                                /* files look like block devices of 1 MiB */
    bool device_is_readonly;
} fault;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fdatasync(int fd)
{
    fault.syncs++;
    if (fault.sync_error) {
        errno = fault.sync_error;
        return -1;
    }
    return REAL(fdatasync)(fd);
}

int sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
    if (fault.range_error && (flags & SYNC_FILE_RANGE_WAIT_AFTER)) {
        errno = fault.range_error;
        return -1;
    }
    return REAL(sync_file_range)(fd, offset, length, flags);
}

static bool interrupted(unsigned call)
{
    if (!fault.short_io || call % 2)
        return false;
    errno = EINTR;
    return true;
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    struct iovec one = *iov;

    if (interrupted(fault.writes++))
        return -1;
    if (fault.write_error && flags == fault.write_error_flags) {
        errno = fault.write_error;
        return -1;
    }
    if (fault.short_io)
        one.iov_len = MIN(one.iov_len, 777);
    return REAL(pwritev2)(fd, &one, n, offset, flags);
}

ssize_t pread(int fd, void *buf, size_t length, off_t offset)
{
    if (interrupted(fault.reads++))
        return -1;
    return REAL(pread)(fd, buf, fault.short_io ? MIN(length, 777) : length, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (interrupted(fault.allocations++))
        return -1;
    if (fault.allocate_error && (mode & fault.allocate_modes)) {
        errno = fault.allocate_error;
        return -1;
    }
    return REAL(fallocate)(fd, mode, offset, length);
}

int open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (fault.open_error && (flags & O_ACCMODE) == O_RDWR) {
        errno = fault.open_error;
        return -1;
    }
    return REAL(open)(path, flags, mode);
}

int fstat(int fd, struct stat *st)
{
    int r = REAL(fstat)(fd, st);

    if (r == 0 && fault.device && S_ISREG(st->st_mode))
        st->st_mode = S_IFBLK | 0600;
    return r;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;

    va_start(args, request);
    void *result = va_arg(args, void *);
    va_end(args);
    if (!fault.device)
        return REAL(ioctl)(fd, request, result);
    if (request == BLKROGET)
        *(int *)result = fault.device_is_readonly;
    else if (request == BLKGETSIZE64)
        *(uint64_t *)result = 1 << 20;
    else
        return REAL(ioctl)(fd, request, result);
    return 0;
}

/* ---- tests ---- */

static struct backend *b;
static struct backend_handle *h;

static void begin(void)
{
    g_autofree char *path = harness_file("disk", 1 << 20, NULL, 0);

    memset(&fault, 0, sizeof fault);
    b = harness_load("file", "file", path, NULL);
    h = harness_open(b);
    harness_log_begin();
}

/* The log. */
static char *end(void)
{
    char *log = harness_log_end();

    harness_close(h);
    harness_free(b);
    return log;
}

/* When one fdatasync has failed, the next one would only pretend that all is written. */
static void test_failed_sync(void)
{
    begin();
    struct backend_handle *other = harness_open(b);
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, 0), ==, 0);
    fault.sync_error = ENOSPC;
    g_assert_cmpint(b->ops->flush(h), ==, -ENOSPC);
    fault.sync_error = 0;
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(b->ops->flush(h), ==, -ENOSPC);
    g_assert_cmpint(b->ops->flush(other), ==, -ENOSPC);
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, -ENOSPC);
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_FUA), ==, -ENOSPC);
    g_assert_cmpint(b->ops->trim(h, 4096, 0, BACKEND_FUA), ==, -ENOSPC);
    g_assert_cmpuint(fault.syncs, ==, 1); /* it was not even tried again */
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, 0), ==, 0);
    harness_close(other);
    g_autofree char *log = end();
    assert_contains(log, "flush failed: No space left on device");
    assert_contains(log, "every further flush will fail");
}

/* The same when cache=none finds the error while it drops what was written: the kernel tells each
 * error once, and would not tell it to the next flush. */
static void test_failed_eviction(void)
{
    g_autofree char *path = harness_file("disk", 1 << 20, NULL, 0);

    memset(&fault, 0, sizeof fault);
    b = harness_load("file", "file", path, "cache", "none", NULL);
    h = harness_open(b);
    g_assert_cmpint(h->fd, ==, -1);
    harness_log_begin();
    fault.range_error = EIO;
    for (unsigned i = 0; i < 20; i++)
        g_assert_cmpint(b->ops->pwrite(h, "x", 1, i * 8192, 0), ==, 0);
    fault.range_error = 0;
    g_assert_cmpint(b->ops->flush(h), ==, -EIO);
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, -EIO);
    g_autofree char *log = end();
    assert_contains(log, "flush failed: Input/output error");
}

/* The same when a write with RWF_DSYNC finds the error. */
static void test_failed_fua(void)
{
    begin();
    fault.write_error = EIO;
    fault.write_error_flags = RWF_DSYNC;
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, -EIO);
    fault.write_error = 0;
    g_assert_cmpint(b->ops->flush(h), ==, -EIO);
    g_assert_cmpuint(fault.syncs, ==, 0);
    g_free(end());

    /* No space is not a failed sync. */
    begin();
    fault.write_error = ENOSPC;
    fault.write_error_flags = RWF_DSYNC;
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, -ENOSPC);
    g_assert_cmpint(b->ops->flush(h), ==, 0);
    g_autofree char *log = end();
    assert_contains(log, "write of 1 bytes at 0: No space left on device");
}

/* Where RWF_DSYNC is not known, FUA is a write and a sync. */
static void test_no_dsync(void)
{
    begin();
    fault.write_error = EOPNOTSUPP;
    fault.write_error_flags = RWF_DSYNC;
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fault.syncs, ==, 2);
    g_assert_cmpuint(fault.writes, ==, 3); /* tried once */
    g_free(end());
}

static void test_short_io(void)
{
    char buf[10000], back[10000];

    begin();
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (char)(i * 31);
    fault.short_io = true;
    g_assert_cmpint(b->ops->pwrite(h, buf, sizeof buf, 5, 0), ==, 0);
    g_assert_cmpint(b->ops->pread(h, back, sizeof back, 5), ==, 0);
    g_assert_cmpmem(buf, sizeof buf, back, sizeof back);
    g_assert_cmpint(b->ops->zero(h, 100, 5, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(b->ops->pread(h, back, 100, 5), ==, 0);
    g_assert_cmpint(back[99], ==, 0);
    g_free(end());
}

/* A file system without holes and without ZERO_RANGE: each is tried once, then zeroes are written.
 */
static void test_no_fallocate(void)
{
    char back[4096];

    begin();
    memset(back, 1, sizeof back);
    g_assert_cmpint(b->ops->pwrite(h, back, 4096, 0, 0), ==, 0);
    fault.allocate_error = EOPNOTSUPP;
    fault.allocate_modes = ~0;
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_FAST), ==, -ENOTSUP);
    unsigned asked = fault.allocations;
    g_assert_cmpuint(asked, ==, 2); /* ZERO_RANGE, and whether allocation works */
    g_assert_cmpint(b->ops->pread(h, back, 4096, 0), ==, 0);
    g_assert_cmpint(back[0], ==, 1);
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(b->ops->trim(h, 4096, 0, 0), ==, 0); /* advice */
    g_assert_cmpuint(fault.allocations, ==, asked + 1);
    g_assert_cmpint(b->ops->pread(h, back, 4096, 0), ==, 0);
    g_assert_cmpint(back[0], ==, 0);
    g_free(end());
}

/* Holes, but no allocation: a fast zero that fails with ENOTSUP must have changed nothing. */
static void test_no_zero_range(void)
{
    char back[4096];

    begin();
    memset(back, 1, sizeof back);
    g_assert_cmpint(b->ops->pwrite(h, back, 4096, 0, 0), ==, 0);
    fault.allocate_error = EOPNOTSUPP;
    fault.allocate_modes = FALLOC_FL_ZERO_RANGE;
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_FAST), ==, 0);
    g_assert_cmpint(b->ops->pread(h, back, 4096, 0), ==, 0);
    g_assert_cmpint(back[0], ==, 0);
    g_free(end());
}

/* The client is told any other error. */
static void test_allocate_error(void)
{
    begin();
    fault.allocate_error = ENOSPC;
    fault.allocate_modes = ~0;
    g_assert_cmpint(b->ops->zero(h, 4096, 0, 0), ==, -ENOSPC);
    fault.allocate_error = EIO;
    g_assert_cmpint(b->ops->trim(h, 4096, 0, 0), ==, -EIO);
    g_autofree char *log = end();
    assert_contains(log, "zero of 4096 bytes at 0: No space left on device");
    assert_contains(log, "trim of 4096 bytes at 0: Input/output error");
}

/* ---- what cannot be written ---- */

/* Open with the faults that `prepare` sets. Is it writable? *log: what was said. */
static bool opens_writable(void (*prepare)(void), char **log)
{
    g_autofree char *path = harness_file("disk", 1 << 20, NULL, 0);

    memset(&fault, 0, sizeof fault);
    b = harness_load("file", "file", path, NULL);
    harness_log_begin();
    prepare();
    h = harness_open(b);
    memset(&fault, 0, sizeof fault);
    bool writable = h->can_write;
    g_free(*log);
    *log = end();
    return writable;
}

static void no_fault(void)
{
}

static void readonly_file_system(void)
{
    fault.open_error = EROFS;
}

static void immutable(void)
{
    fault.open_error = EPERM;
}

static void no_permission(void)
{
    fault.open_error = EACCES;
}

static void device(void)
{
    fault.device = true;
}

static void readonly_device(void)
{
    fault.device = fault.device_is_readonly = true;
}

static void test_readonly(void)
{
    void (*const prepare[])(void) = {readonly_file_system, immutable, no_permission,
                                     readonly_device};
    g_autofree char *log = NULL;

    g_assert_true(opens_writable(no_fault, &log));
    g_assert_cmpstr(log, ==, "");
    g_assert_true(opens_writable(device, &log));
    g_assert_cmpstr(log, ==, "");
    for (size_t i = 0; i < G_N_ELEMENTS(prepare); i++) {
        g_assert_false(opens_writable(prepare[i], &log));
        assert_contains(log, "it is served read-only");
    }
}

/* A shortage that may soon be over makes no disk read-only. */
static void test_no_descriptors(void)
{
    g_autofree char *path = harness_file("disk", 1 << 20, NULL, 0);

    memset(&fault, 0, sizeof fault);
    b = harness_load("file", "file", path, NULL);
    fault.open_error = EMFILE;
    g_autofree char *error = harness_open_error(b, false);
    assert_contains(error, "Too many open files");
    fault.open_error = 0;
    harness_free(b);
}

static void add_tests(void)
{
    g_test_add_func("/faults/read-only", test_readonly);
    g_test_add_func("/faults/no-descriptors", test_no_descriptors);
    g_test_add_func("/faults/failed-sync", test_failed_sync);
    g_test_add_func("/faults/failed-eviction", test_failed_eviction);
    g_test_add_func("/faults/failed-fua", test_failed_fua);
    g_test_add_func("/faults/no-dsync", test_no_dsync);
    g_test_add_func("/faults/short-io", test_short_io);
    g_test_add_func("/faults/no-fallocate", test_no_fallocate);
    g_test_add_func("/faults/no-zero-range", test_no_zero_range);
    g_test_add_func("/faults/allocate-error", test_allocate_error);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
