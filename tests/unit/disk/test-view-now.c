/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading a view without waiting: what is in the page cache and was not kept is read at once, what is
 * in scratch might block, and nothing of a guest's newer data is ever given.
 */
#include "server/disk/node.h"
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define SIZE  (256 * KIB)
#define BLOCK 4096u

static int file = -1;

/* A disk over a file, filled with 'a' behind its first 64 KiB of zeroes. The file is in the build
 * folder: one for temporary files may be memory, whose file system does not know RWF_NOWAIT. */
static struct rig *begin(uint32_t min_block)
{
    char path[] = "view-now-XXXXXX";
    struct backend *b = fake_backend_new(SIZE);
    struct rig *r;

    file = g_mkstemp(path);
    g_assert_cmpint(file, >=, 0);
    g_unlink(path);
    g_assert_cmpint(ftruncate(file, SIZE), ==, 0);
    fake_backend_set_fd(b, file);
    fake_backend_set_no_extents(b);
    fake_backend_set_min_block(b, min_block);
    r = rig_new_over(b, 0);
    rig_fill(r, 64 * KIB, SIZE - 64 * KIB, 'a');
    return r;
}

static void end(struct rig *r)
{
    rig_free(r);
    close(file);
}

/* What a client of the view gets; buf becomes 'x' before. */
static int read_now(struct view *v, char *buf, uint64_t offset, uint32_t length)
{
    struct node_io *io;
    GError *error = NULL;
    int result;

    node_io_open(view_node(v), false, false, NULL, &io, &error);
    g_assert_no_error(error);
    do { /* again where the kernel has dropped it meanwhile */
        g_assert_cmpint(pread(file, buf, length, (off_t)offset), ==, length);
        memset(buf, 'x', length);
        result = node_read_now(io, buf, length, offset);
    } while (result == NODE_WOULD_BLOCK);
    node_io_close(io);
    return result;
}

static bool is(const char *buf, uint32_t length, char byte)
{
    return buf[0] == byte && memcmp(buf, buf + 1, length - 1) == 0;
}

/* Can the kernel be asked at all? Else the test says so. */
static bool asked(struct view *v)
{
    char buf[BLOCK];

    if (read_now(v, buf, 64 * KIB, sizeof buf) == 0)
        return true;
    g_test_skip("this file system does not know RWF_NOWAIT");
    return false;
}

static void test_kept(void)
{
    struct rig *r = begin(1);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    char buf[16 * KIB];

    if (asked(v)) {
        rig_fill(r, 100 * KIB, BLOCK, 'b');
        rig_fill(r, 8 * KIB, BLOCK, 'b');
        g_assert_cmpint(read_now(v, buf, 64 * KIB, sizeof buf), ==, 0);
        g_assert_true(is(buf, sizeof buf, 'a'));
        /* One block of it is kept. */
        g_assert_cmpint(read_now(v, buf, 96 * KIB, sizeof buf), ==, -EAGAIN);
        g_assert_cmpint(read_now(v, buf, 100 * KIB, 512), ==, -EAGAIN);
        assert_view(v, 96 * KIB, 16 * KIB, 'a');
        /* That a block was zero is kept in no scratch. */
        g_assert_cmpint(read_now(v, buf, 0, sizeof buf), ==, 0);
        g_assert_true(is(buf, sizeof buf, 0));
    }
    end(r);
}

/* The reader has read the disk; before it looks again, a guest writes. */
static void write_once(struct rig *r, enum disk_point point)
{
    if (point != POINT_VIEW_BASE_READ || r->visitor)
        return;
    r->visitor = r;
    rig_fill(r, 68 * KIB, BLOCK, 'b');
}

static void test_overtaken(void)
{
    struct rig *r = begin(1);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    char buf[16 * KIB];

    if (asked(v)) {
        r->visit = write_once;
        g_assert_cmpint(read_now(v, buf, 64 * KIB, sizeof buf), ==, -EAGAIN);
        g_assert_true(r->visitor == r);
        r->visit = NULL;
        assert_view(v, 64 * KIB, sizeof buf, 'a');
        g_assert_cmpint(read_now(v, buf, 80 * KIB, sizeof buf), ==, 0);
        g_assert_true(is(buf, sizeof buf, 'a'));
    }
    end(r);
}

static void test_broken(void)
{
    struct rig *r = begin(1);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    char buf[BLOCK];

    if (asked(v)) {
        view_break(v, "a test says so");
        g_assert_cmpint(read_now(v, buf, 64 * KIB, sizeof buf), ==, -EIO);
    }
    end(r);
}

/* What is no whole block of the image goes by another way, which promises nothing. */
static void test_unaligned(void)
{
    struct rig *r = begin(512);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    char buf[BLOCK];

    g_assert_cmpint(read_now(v, buf, 64 * KIB, 100), ==, -EAGAIN);
    g_assert_cmpint(read_now(v, buf, 64 * KIB + 1, 512), ==, -EAGAIN);
    end(r);
}

static void test_no_descriptor(void)
{
    struct rig *r = rig_new(SIZE, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    struct node_io *io;
    GError *error = NULL;
    char buf[BLOCK];

    node_io_open(view_node(v), false, false, NULL, &io, &error);
    g_assert_no_error(error);
    g_assert_cmpint(node_read_now(io, buf, sizeof buf, 0), ==, -EAGAIN);
    node_io_close(io);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view-now/kept", test_kept);
    g_test_add_func("/view-now/overtaken", test_overtaken);
    g_test_add_func("/view-now/broken", test_broken);
    g_test_add_func("/view-now/unaligned", test_unaligned);
    g_test_add_func("/view-now/no-descriptor", test_no_descriptor);
    return g_test_run();
}
