/* SPDX-License-Identifier: BSD-3-Clause */
/* The usual operations of a live image's files, on a file system that fails: this program has functions
 * of its own in place of libc's. */
#include "common/live/live-file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    int sync_error, write_error,
        through_error;                  /* of fdatasync, pwrite, pwritev2 with RWF_DSYNC; 0: none */
    int allocate_error, allocate_modes; /* of fallocate, in modes that have one of these bits */
    int allocate_plain_error;           /* of fallocate that only allocates */
    int truncate_error;
    bool half;       /* a write does a few bytes before it fails */
    bool interrupts; /* every second call, and the others do a few bytes */
    unsigned calls, syncs, throughs, allocations;
} fault;

static int fails(int error)
{
    if (fault.interrupts && fault.calls++ % 2 == 0)
        error = EINTR;
    errno = error;
    return error ? -1 : 0;
}

static size_t cut(size_t length)
{
    return fault.interrupts ? MIN(length, 777) : length;
}

int fdatasync(int fd)
{
    fault.syncs++;
    return fails(fault.sync_error) < 0 ? -1 : (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite(int fd, const void *p, size_t length, off_t offset)
{
    struct iovec iov = {(void *)p, cut(length)};

    if (fault.half && length > 777)
        iov.iov_len = 777;
    else if (fails(fault.write_error) < 0)
        return -1;
    return syscall(SYS_pwritev, fd, &iov, 1, (unsigned long)offset, 0ul);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    struct iovec one = {iov->iov_base, cut(iov->iov_len)};

    g_assert_cmpint(flags, ==, RWF_DSYNC);
    g_assert_cmpint(n, ==, 1);
    fault.throughs++;
    if (fails(fault.through_error) < 0)
        return -1;
    return syscall(SYS_pwritev, fd, &one, 1, (unsigned long)offset, 0ul);
}

ssize_t pread(int fd, void *p, size_t length, off_t offset)
{
    struct iovec iov = {p, cut(length)};

    if (fails(0) < 0)
        return -1;
    return syscall(SYS_preadv, fd, &iov, 1, (unsigned long)offset, 0ul);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    fault.allocations++;
    if (fails((mode & fault.allocate_modes) ? fault.allocate_error
              : mode == FALLOC_FL_KEEP_SIZE ? fault.allocate_plain_error
                                            : 0) < 0)
        return -1;
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

int ftruncate(int fd, off_t size)
{
    return fails(fault.truncate_error) < 0 ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

/* ---- the file ---- */

static void begin(struct live_file *f)
{
    g_autofree char *path = g_strdup("/tmp/test-live-file-XXXXXX");

    memset(&fault, 0, sizeof(fault));
    memset(f, 0, sizeof(*f));
    f->ops = &live_file_usual;
    f->path = "file";
    f->fd = g_mkstemp(path);
    g_assert_cmpint(f->fd, >=, 0);
    f->writable = true;
    g_unlink(path);
}

static void end(struct live_file *f)
{
    struct stat st;

    g_assert_cmpint(fstat(f->fd, &st), ==, 0);
    g_assert_cmpuint(atomic_load(&f->size), ==, (uint64_t)st.st_size);
    close(f->fd);
}

static uint64_t allocated(const struct live_file *f)
{
    struct stat st;

    g_assert_cmpint(fstat(f->fd, &st), ==, 0);
    return (uint64_t)st.st_blocks * 512;
}

static void write_bytes(struct live_file *f, char value, size_t length, uint64_t offset)
{
    g_autofree char *bytes = g_malloc(length);

    memset(bytes, value, length);
    g_assert_cmpint(live_file_pwrite(f, bytes, length, offset), ==, 0);
}

static void assert_bytes(struct live_file *f, char value, size_t length, uint64_t offset)
{
    g_autofree char *bytes = g_malloc(length);

    memset(bytes, '?', length);
    g_assert_cmpint(live_file_pread(f, bytes, length, offset), ==, 0);
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != value)
            g_error("byte %zu is %d and not %d", (size_t)offset + i, bytes[i], value);
}

/* ---- content and size ---- */

/* With calls that are interrupted and short, too. */
static void test_content(gconstpointer interrupts)
{
    struct live_file f;

    begin(&f);
    fault.interrupts = interrupts;
    write_bytes(&f, 'a', 10000, 5000);
    g_assert_cmpuint(atomic_load(&f.size), ==, 15000);
    assert_bytes(&f, 0, 5000, 0);
    assert_bytes(&f, 'a', 10000, 5000);
    assert_bytes(&f, 0, 70000, 15000);
    write_bytes(&f, 'b', 100, 0);
    g_assert_cmpuint(atomic_load(&f.size), ==, 15000);
    g_assert_cmpint(live_file_pwrite_durable(&f, "durable", 7, 20000), ==, 0);
    g_assert_cmpuint(fault.throughs, >, 0);
    g_assert_cmpuint(fault.syncs, ==, 0);
    g_assert_cmpuint(atomic_load(&f.size), ==, 20007);
    g_assert_cmpint(live_file_sync(&f), ==, 0);
    g_assert_cmpuint(fault.syncs, >, 0);
    g_assert_cmpint(live_file_shorten(&f, 50), ==, 0);
    g_assert_cmpuint(atomic_load(&f.size), ==, 50);
    assert_bytes(&f, 'b', 50, 0);
    assert_bytes(&f, 0, 50, 50);
    end(&f);
}

static void test_extend(void)
{
    const uint64_t sizes[] = {1, 511, 5000, 70000, (UINT64_C(5) << 30) + 512};
    struct live_file f;

    begin(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_assert_cmpint(live_file_extend(&f, sizes[i]), ==, 0);
        g_assert_cmpuint(atomic_load(&f.size), ==, sizes[i]);
        g_assert_cmpuint(fault.throughs, ==, i + 1);
    }
    assert_bytes(&f, 0, 200000, 0);
    assert_bytes(&f, 0, 100000, sizes[4] - 100000);
    g_assert_cmpuint(allocated(&f), <=, 65536);
    /* It never becomes shorter, nor is anything overwritten. */
    write_bytes(&f, 'x', 10, sizes[4] - 10);
    g_assert_cmpint(live_file_extend(&f, sizes[4]), ==, 0);
    g_assert_cmpint(live_file_extend(&f, 5), ==, 0);
    g_assert_cmpint(live_file_extend(&f, sizes[4] + 1), ==, 0);
    assert_bytes(&f, 'x', 10, sizes[4] - 10);
    end(&f);
}

static void test_zero(void)
{
    struct live_file f;

    begin(&f);
    write_bytes(&f, 'a', 1 << 20, 0);
    uint64_t full = allocated(&f);

    g_assert_cmpint(live_file_zero(&f, 100, 50, true), ==, 0);
    g_assert_cmpint(live_file_zero(&f, 0, 0, true), ==, 0);
    assert_bytes(&f, 'a', 50, 0);
    assert_bytes(&f, 0, 100, 50);
    assert_bytes(&f, 'a', 100, 150);
    g_assert_cmpint(live_file_zero(&f, 1 << 18, 1 << 18, false), ==, 0);
    assert_bytes(&f, 0, 1 << 18, 1 << 18);
    g_assert_cmpuint(allocated(&f), >=, full);
    g_assert_cmpint(live_file_zero(&f, 1 << 18, 1 << 18, true), ==, 0);
    assert_bytes(&f, 0, 1 << 18, 1 << 18);
    assert_bytes(&f, 'a', 1 << 19, 1 << 19);
    g_assert_cmpuint(allocated(&f), <, full);
    g_assert_cmpuint(atomic_load(&f.size), ==, 1 << 20);
    end(&f);
}

/* A file system that lacks ways to make zeroes. */
static void test_zero_missing(void)
{
    struct live_file f;
    unsigned allocations;

    /* No ZERO_RANGE: a hole, which is filled. */
    begin(&f);
    write_bytes(&f, 'a', 1 << 20, 0);
    fault.allocate_error = EOPNOTSUPP;
    fault.allocate_modes = FALLOC_FL_ZERO_RANGE;
    uint64_t full = allocated(&f);
    g_assert_cmpint(live_file_zero(&f, 1 << 18, 0, false), ==, 0);
    assert_bytes(&f, 0, 1 << 18, 0);
    assert_bytes(&f, 'a', 100, 1 << 18);
    g_assert_cmpuint(allocated(&f), >=, full);
    allocations = fault.allocations;
    g_assert_cmpint(live_file_zero(&f, 1 << 18, 0, false), ==, 0);
    g_assert_cmpuint(fault.allocations, ==, allocations + 3);
    /* No room to fill it: nothing has changed. */
    fault.allocate_plain_error = ENOSPC;
    g_assert_cmpint(live_file_zero(&f, 100, 1 << 19, false), ==, -ENOSPC);
    assert_bytes(&f, 'a', 100, 1 << 19);
    end(&f);

    /* No holes either: nothing has changed, and it is not tried again. */
    begin(&f);
    write_bytes(&f, 'a', 1 << 20, 0);
    fault.allocate_error = EOPNOTSUPP;
    fault.allocate_modes = FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE;
    g_assert_cmpint(live_file_zero(&f, 4096, 0, true), ==, -ENOTSUP);
    g_assert_cmpint(live_file_zero(&f, 4096, 0, false), ==, -ENOTSUP);
    assert_bytes(&f, 'a', 1 << 20, 0);
    fault.allocate_plain_error = ENODEV;
    g_assert_cmpint(live_file_zero(&f, 4096, 0, false), ==, -ENOTSUP);
    allocations = fault.allocations;
    g_assert_cmpint(live_file_zero(&f, 4096, 0, false), ==, -ENOTSUP);
    g_assert_cmpint(live_file_zero(&f, 4096, 0, true), ==, -ENOTSUP);
    g_assert_cmpuint(fault.allocations, ==, allocations);
    g_assert_cmpint(atomic_load(&f.sync_error), ==, 0);
    end(&f);
}

/* ---- errors ---- */

/* Nothing becomes durable any more, and that is said each time, though the kernel would succeed. */
static void assert_final(struct live_file *f, int error)
{
    memset(&fault, 0, sizeof(fault));
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(atomic_load(&f->sync_error), ==, error);
        g_assert_cmpint(live_file_sync(f), ==, -error);
        g_assert_cmpint(live_file_pwrite_durable(f, "x", 1, 0), ==, -error);
        g_assert_cmpint(live_file_extend(f, atomic_load(&f->size) + 1), ==, -error);
        g_assert_cmpint(live_file_pwrite(f, "x", 1, 0), ==, 0);
        assert_bytes(f, 'x', 1, 0);
    }
}

static void test_sync_fails(void)
{
    struct live_file f;

    begin(&f);
    write_bytes(&f, 'a', 100, 0);
    fault.sync_error = ENOSPC;
    g_assert_cmpint(live_file_sync(&f), ==, -ENOSPC);
    fault.sync_error = EIO;
    g_assert_cmpint(live_file_sync(&f), ==, -ENOSPC); /* the first one stays */
    assert_final(&f, ENOSPC);
    end(&f);
}

/* A full file system is no reason to give up; a write that has failed on its way to the medium is. */
static void test_durable_fails(void)
{
    struct live_file f;

    begin(&f);
    write_bytes(&f, 'a', 100, 0);
    fault.write_error = ENOSPC;
    g_assert_cmpint(live_file_pwrite(&f, "b", 1, 0), ==, -ENOSPC);
    g_assert_cmpint(live_file_pwrite_durable(&f, "b", 1, 0), ==, -ENOSPC);
    g_assert_cmpint(live_file_extend(&f, 1000), ==, -ENOSPC);
    fault.write_error = 0;
    g_assert_cmpint(atomic_load(&f.sync_error), ==, 0);
    g_assert_cmpint(live_file_sync(&f), ==, 0);
    g_assert_cmpint(live_file_extend(&f, 1000), ==, 0);
    fault.through_error = ENOSPC;
    g_assert_cmpint(live_file_pwrite_durable(&f, "b", 1, 2000), ==, -ENOSPC);
    assert_final(&f, ENOSPC);
    end(&f);

    begin(&f);
    fault.through_error = EIO;
    g_assert_cmpint(live_file_extend(&f, 100000), ==, -EIO);
    assert_final(&f, EIO);
    end(&f);
}

/* Where RWF_DSYNC is not known, a durable write is a write and a sync. */
static void test_no_dsync(void)
{
    struct live_file f;

    begin(&f);
    fault.through_error = EOPNOTSUPP;
    g_assert_cmpint(live_file_pwrite_durable(&f, "b", 1, 0), ==, 0);
    g_assert_cmpuint(fault.syncs, ==, 1);
    g_assert_cmpint(live_file_extend(&f, 100000), ==, 0);
    g_assert_cmpuint(fault.syncs, ==, 2);
    g_assert_cmpuint(fault.throughs, ==, 1);
    assert_bytes(&f, 'b', 1, 0);
    fault.sync_error = EIO;
    g_assert_cmpint(live_file_pwrite_durable(&f, "c", 1, 0), ==, -EIO);
    assert_final(&f, EIO);
    end(&f);
}

/* The file is as long as what was written before a write failed. */
static void test_half(void)
{
    static const char bytes[1000];
    struct live_file f;

    begin(&f);
    fault.half = true;
    fault.write_error = ENOSPC;
    g_assert_cmpint(live_file_pwrite(&f, bytes, sizeof(bytes), 5000), ==, -ENOSPC);
    g_assert_cmpuint(atomic_load(&f.size), ==, 5777);
    g_assert_cmpint(live_file_pwrite_durable(&f, bytes, sizeof(bytes), 9000), ==, -ENOSPC);
    g_assert_cmpuint(atomic_load(&f.size), ==, 9777);
    end(&f);
}

static void test_shorten_fails(void)
{
    struct live_file f;

    begin(&f);
    write_bytes(&f, 'a', 100, 0);
    fault.truncate_error = EPERM;
    g_assert_cmpint(live_file_shorten(&f, 10), ==, -EPERM);
    g_assert_cmpuint(atomic_load(&f.size), ==, 100);
    end(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/file/content", NULL, test_content);
    g_test_add_data_func("/file/interrupted", "yes", test_content);
    g_test_add_func("/file/extend", test_extend);
    g_test_add_func("/file/zero", test_zero);
    g_test_add_func("/file/zero-missing", test_zero_missing);
    g_test_add_func("/file/sync-fails", test_sync_fails);
    g_test_add_func("/file/durable-fails", test_durable_fails);
    g_test_add_func("/file/no-dsync", test_no_dsync);
    g_test_add_func("/file/half", test_half);
    g_test_add_func("/file/shorten-fails", test_shorten_fails);
    return g_test_run();
}
