/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading a file without waiting: what is in the page cache is read at once, what is not there is
 * reported as blocking, and nothing is promised where the kernel cannot be asked.
 */
#include "common/base/file-io.h"
#include "server/disk/disk-private.h"
#include "server/disk/node.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK  4096u
#define BLOCKS 256u

struct rig {
    int fd;
    struct disk disk;
    struct backend_handle handle;
    struct node_io io;
};

/* The file is in the build folder: one for temporary files may be memory, which is never cold. */
static void rig_begin(struct rig *r)
{
    char path[] = "node-read-XXXXXX", block[BLOCK];

    memset(r, 0, sizeof *r);
    r->fd = g_mkstemp(path);
    g_assert_cmpint(r->fd, >=, 0);
    g_unlink(path);
    for (unsigned i = 0; i < BLOCKS; i++) {
        memset(block, (int)i, sizeof block);
        g_assert_cmpint(write(r->fd, block, sizeof block), ==, BLOCK);
    }
    g_assert_cmpint(fsync(r->fd), ==, 0);
    r->handle.fd = r->fd;
    r->disk.node.kind = NODE_DISK;
    r->io = (struct node_io){.node = &r->disk.node, .disk = &r->disk, .handle = &r->handle};
    r->io.info.min_block = 1;
    r->io.info.has_file = true;
}

static int read_now(struct rig *r, unsigned block)
{
    unsigned char bytes[BLOCK];
    int error = node_read_now(&r->io, bytes, sizeof bytes, (uint64_t)block * BLOCK);

    for (unsigned i = 0; error == 0 && i < sizeof bytes; i++)
        g_assert_cmpuint(bytes[i], ==, block % 256);
    return error;
}

static void test_cached(void)
{
    struct rig r;

    rig_begin(&r);
    int error = read_now(&r, 1);
    if (error == -EAGAIN) {
        g_test_skip("this file system does not know RWF_NOWAIT");
    } else {
        g_assert_cmpint(error, ==, 0);
        /* A read that would give less than was asked for gives nothing. */
        g_assert_cmpint(ftruncate(r.fd, BLOCK * BLOCKS - 100), ==, 0);
        g_assert_cmpint(read_now(&r, BLOCKS - 1), ==, NODE_WOULD_BLOCK);
    }
    close(r.fd);
}

/* The kernel may have read a block ahead, or may be quicker than the question. But of many cold
 * blocks at least one has to be waited for. */
static void test_cold(void)
{
    struct rig r;
    unsigned blocking = 0, unknown = 0;
    char bytes[BLOCK];

    rig_begin(&r);
    for (unsigned i = 0; i < BLOCKS; i++) {
        g_assert_cmpint(posix_fadvise(r.fd, 0, 0, POSIX_FADV_DONTNEED), ==, 0);
        int error = read_now(&r, i);
        blocking += error == NODE_WOULD_BLOCK;
        unknown += error == -EAGAIN;
        g_assert_cmpint(node_read(&r.io, bytes, sizeof bytes, i * BLOCK, 0), ==, 0);
        g_assert_cmpint(read_now(&r, i), ==, unknown ? -EAGAIN : 0);
    }
    if (unknown > 0)
        g_test_skip("this file system does not know RWF_NOWAIT");
    else if (blocking == 0)
        g_test_skip("this file system forgets nothing that it is told to");
    close(r.fd);
}

/* A range may be sent from the page cache if all of it is there, and not if a part is missing. */
static void test_cached_fd(void)
{
    struct rig r;
    const uint32_t all = BLOCK * BLOCKS;
    char bytes[BLOCK];
    uint64_t host;

    rig_begin(&r);
    int known = file_is_cached(r.fd, 0, all);
    if (known < 0) {
        g_assert_cmpint(node_cached_fd(&r.io, all, 0, &host), ==, -1);
        g_assert_true(atomic_load(&r.io.cache_unknown));
        g_test_skip("this kernel does not tell what it has in its cache");
    } else {
        g_assert_cmpint(node_cached_fd(&r.io, all, 0, &host), ==, r.fd);
        g_assert_cmpint(node_cached_fd(&r.io, 1, all - 1, &host), ==, r.fd);
        g_assert_cmpint(node_cached_fd(&r.io, all, 1, &host), ==, -1); /* the file ends before */
        g_assert_cmpint(ftruncate(r.fd, all - 100), ==, 0);
        g_assert_cmpint(node_cached_fd(&r.io, all, 0, &host), ==, -1); /* now in its last page */
        g_assert_cmpint(node_cached_fd(&r.io, all - 100, 0, &host), ==, r.fd);
        /* What was never read is not there: a range behind the old end, and the half of another. */
        g_assert_cmpint(ftruncate(r.fd, all + BLOCK), ==, 0);
        g_assert_cmpint(node_cached_fd(&r.io, BLOCK, all, &host), ==, -1);
        g_assert_cmpint(node_cached_fd(&r.io, 2 * BLOCK, all - BLOCK, &host), ==, -1);
        g_assert_cmpint(ftruncate(r.fd, all), ==, 0);
        r.io.info.has_file = false; /* as for a view */
        g_assert_cmpint(node_cached_fd(&r.io, all, 0, &host), ==, -1);
        r.io.info.has_file = true;
        posix_fadvise(r.fd, 0, 0, POSIX_FADV_DONTNEED);
        posix_fadvise(r.fd, 0, 0, POSIX_FADV_RANDOM); /* no reading ahead */
        g_assert_cmpint(pread(r.fd, bytes, sizeof bytes, BLOCK * 8), ==, BLOCK);
        if (node_cached_fd(&r.io, BLOCK, 0, &host) >= 0)
            g_test_skip("this file system forgets nothing that it is told to");
        else
            g_assert_cmpint(node_cached_fd(&r.io, BLOCK, BLOCK * 8, &host), ==, r.fd);
    }
    close(r.fd);
}

/* A file in memory, whose file system does not know the flag: a long range is read at once where the
 * kernel says that all of it is there. To ask is too much for a short one. */
static void test_in_memory(void)
{
    const uint32_t all = BLOCK * BLOCKS;
    g_autofree char *bytes = g_malloc(all);
    struct rig r;

    rig_begin(&r);
    memset(bytes, 'a', all);
    r.handle.fd = memfd_create("node-read", MFD_CLOEXEC);
    g_assert_cmpint(r.handle.fd, >=, 0);
    g_assert_cmpint(pwrite(r.handle.fd, bytes, all / 2, 0), ==, all / 2);
    g_assert_cmpint(ftruncate(r.handle.fd, all), ==, 0);
    if (node_read_now(&r.io, bytes, BLOCK, 0) != -EAGAIN) {
        g_test_skip("the file system of memory knows RWF_NOWAIT");
    } else if (file_is_cached(r.handle.fd, 0, all / 2) < 0) {
        g_assert_cmpint(node_read_now(&r.io, bytes, all / 2, 0), ==, -EAGAIN);
        g_test_skip("this kernel does not tell what it has in its cache");
    } else {
        memset(bytes, 'x', all);
        g_assert_cmpint(node_read_now(&r.io, bytes, all / 2, 0), ==, 0);
        for (uint32_t i = 0; i < all / 2; i++)
            g_assert_cmpint(bytes[i], ==, 'a');
        g_assert_cmpint(node_read_now(&r.io, bytes, all, 0), ==, -EAGAIN); /* half of it is there */
    }
    close(r.handle.fd);
    close(r.fd);
}

/* Where the kernel refuses to tell what is in its cache, it is asked only once. */
static void test_cache_unknown(void)
{
    struct rig r;
    uint64_t host;

    rig_begin(&r);
    r.handle.fd = open(".", O_PATH | O_CLOEXEC); /* EBADF to all that would look inside */
    g_assert_cmpint(r.handle.fd, >=, 0);
    r.io.info.has_file = true;
    g_assert_cmpint(node_cached_fd(&r.io, BLOCK, 0, &host), ==, -1);
    close(r.handle.fd);
    r.handle.fd = r.fd;
    g_assert_cmpint(node_cached_fd(&r.io, BLOCK, 0, &host), ==, -1);
    close(r.fd);
}

/* Without a descriptor the kernel cannot be asked. */
static void test_no_descriptor(void)
{
    struct rig r;

    rig_begin(&r);
    r.handle.fd = -1;
    g_assert_cmpint(read_now(&r, 1), ==, -EAGAIN);
    close(r.fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-read/cached", test_cached);
    g_test_add_func("/node-read/cold", test_cold);
    g_test_add_func("/node-read/cached-fd", test_cached_fd);
    g_test_add_func("/node-read/in-memory", test_in_memory);
    g_test_add_func("/node-read/cache-unknown", test_cache_unknown);
    g_test_add_func("/node-read/no-descriptor", test_no_descriptor);
    return g_test_run();
}
