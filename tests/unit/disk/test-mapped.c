/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk whose bytes lie in a file at other offsets (backend_handle.map): each block of a request
 * goes the way that the map says, and no other.
 */
#include "common/base/file-io.h"
#include "server/disk/image-io.h"
#include "server/disk/node.h"
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK  4096u
#define BLOCKS 64u
#define SIZE   (BLOCK * BLOCKS)

/* Four kinds of blocks follow each other. Two of them are in the file, and touch there. What only the
 * backend has is in its memory. The fourth kind goes there when it is written; until then it reads as zeroes,
 * or as what another file has, which is zeroes and must stay so. */
enum kind { FILE_FIRST, FILE_NEXT, MEMORY, AT_FIRST_ZERO };

static int file, below; /* the descriptors that the map tells */
static bool zero[BLOCKS];

static enum kind kind_of(uint64_t block)
{
    return block % 4;
}

static bool is_below(uint64_t block)
{
    return block % 8 == 7;
}

/* The blocks' order in the file is turned around, but for pairs. */
static uint64_t host_of(uint64_t block)
{
    return ((BLOCKS / 4 - 1 - block / 4) * 2 + block % 4) * BLOCK;
}

static void map(struct backend_handle *h, uint64_t offset, uint64_t length, bool writing,
                struct backend_segment *s)
{
    uint64_t block = offset / BLOCK, within = offset % BLOCK;
    uint64_t run = BLOCK - within;

    g_assert_cmpuint(length, >, 0);
    g_assert_cmpuint(offset + length, <=, SIZE);
    *s = (struct backend_segment){.place = BACKEND_ANYWHERE, .fd = -1};
    if (kind_of(block) == FILE_FIRST || kind_of(block) == FILE_NEXT) {
        *s = (struct backend_segment){BACKEND_IN_FILE, file, host_of(block) + within, 0};
        run += kind_of(block) == FILE_FIRST ? BLOCK : 0;
    } else if (kind_of(block) == AT_FIRST_ZERO && zero[block] && !writing) {
        s->place = is_below(block) ? BACKEND_IN_FILE : BACKEND_ZEROES;
        s->fd = below;
        s->host = within;
    }
    s->length = MIN(length, run);
}

/* The backend is asked only for what the map does not tell. */
static int watch(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    for (uint64_t at = offset / BLOCK; length > 0 && at <= (offset + length - 1) / BLOCK; at++) {
        if (call == FAKE_READ)
            g_assert_true(kind_of(at) == MEMORY || (kind_of(at) == AT_FIRST_ZERO && !zero[at]));
        if (call == FAKE_WRITE)
            g_assert_cmpint(kind_of(at), >=, MEMORY);
        if (call == FAKE_WRITE)
            zero[at] = false;
    }
    return 0;
}

static struct rig *begin(fake_hook hook)
{
    struct backend *b = fake_backend_new(SIZE);
    char path[] = "mapped-XXXXXX";

    file = g_mkstemp(path);
    g_assert_cmpint(file, >=, 0);
    g_unlink(path);
    g_assert_cmpint(ftruncate(file, SIZE / 2), ==, 0);
    below = memfd_create("mapped", MFD_CLOEXEC);
    g_assert_cmpint(below, >=, 0);
    g_assert_cmpint(ftruncate(below, BLOCK), ==, 0);
    memset(zero, true, sizeof zero);
    fake_backend_set_map(b, map);
    fake_backend_set_no_extents(b);
    fake_backend_set_hook(b, hook, NULL);
    return rig_new_over(b, 0);
}

static void end(struct rig *r)
{
    char bytes[BLOCK];

    rig_free(r);
    close(file);
    g_assert_cmpint(pread(below, bytes, sizeof bytes, 0), ==, BLOCK);
    for (size_t i = 0; i < sizeof bytes; i++)
        g_assert_cmpint(bytes[i], ==, 0);
    close(below);
}

static void test_random(void)
{
    struct rig *r = begin(watch);
    g_autofree uint8_t *model = g_malloc0(SIZE), *bytes = g_malloc(SIZE);

    g_assert_true(node_io_info(r->io)->has_file);
    for (int i = 0; i < 3000; i++) {
        uint32_t offset = (uint32_t)g_test_rand_int_range(0, SIZE);
        uint32_t most = g_test_rand_bit() ? BLOCK : 10 * BLOCK;
        uint32_t length = (uint32_t)g_test_rand_int_range(1, (gint32)MIN(most, SIZE - offset) + 1);

        if (i % 3 == 0) {
            for (uint32_t at = offset; at < offset + length; at++)
                model[at] = (uint8_t)g_test_rand_int();
            g_assert_cmpint(node_write(r->io, model + offset, length, offset, 0), ==, 0);
        } else if (i % 3 == 1) {
            g_assert_cmpint(node_read(r->io, bytes, length, offset, 0), ==, 0);
            g_assert_cmpmem(bytes, length, model + offset, length);
        } else if (node_read_now(r->io, bytes, length, offset) == 0) {
            g_assert_cmpmem(bytes, length, model + offset, length);
        }
    }
    for (uint32_t block = 0; block < BLOCKS; block++) {
        if (kind_of(block) > FILE_NEXT)
            continue;
        g_assert_cmpint(pread(file, bytes, BLOCK, (off_t)host_of(block)), ==, BLOCK);
        g_assert_cmpmem(bytes, BLOCK, model + (size_t)block * BLOCK, BLOCK);
    }
    end(r);
}

/* A view keeps what is overwritten, wherever it lies; a bitmap sees it. */
static void test_view(void)
{
    struct rig *r = begin(watch);

    rig_fill(r, 0, SIZE, 'a');
    struct view *v = rig_view(r, "v", CBW_BREAK_GUEST_WRITE, 0);
    rig_bitmap(r, "b", BLOCK);
    rig_fill(r, BLOCK / 2, 5 * BLOCK, 'b');
    assert_view(v, 0, SIZE, 'a');
    g_assert_true(node_is(disk_node(r->disk), BLOCK / 2, 5 * BLOCK, 'b'));
    g_assert_true(node_is(disk_node(r->disk), 6 * BLOCK, SIZE - 6 * BLOCK, 'a'));
    g_assert_cmpuint(rig_count(r, "b"), ==, 6 * BLOCK);
    end(r);
}

static void test_now(void)
{
    struct rig *r = begin(watch);
    uint8_t bytes[3 * BLOCK];

    rig_fill(r, 0, SIZE, 'a');
    memset(zero, true, sizeof zero);
    if (node_read_now(r->io, bytes, 2 * BLOCK, 0) == -EAGAIN) {
        g_test_skip("this file system does not know RWF_NOWAIT");
    } else {
        g_assert_cmpint(node_read_now(r->io, bytes, 2 * BLOCK, 4 * BLOCK), ==, 0);
        g_assert_cmpint(bytes[2 * BLOCK - 1], ==, 'a');
        /* Zeroes, and then a piece of the file. */
        g_assert_cmpint(node_read_now(r->io, bytes, 3 * BLOCK, 3 * BLOCK), ==, 0);
        g_assert_cmpint(bytes[BLOCK - 1], ==, 0);
        g_assert_cmpint(bytes[BLOCK], ==, 'a');
        g_assert_cmpint(node_read_now(r->io, bytes, BLOCK, 2 * BLOCK), ==, -EAGAIN);
        g_assert_cmpint(node_read_now(r->io, bytes, 2 * BLOCK, BLOCK), ==, -EAGAIN);
        g_assert_cmpint(ftruncate(file, 0), ==, 0);
        g_assert_cmpint(node_read_now(r->io, bytes, BLOCK, 0), ==, NODE_WOULD_BLOCK);
    }
    end(r);
}

/* One piece of the file that is all in the page cache may be sent from there. */
static void test_send(void)
{
    struct rig *r = begin(watch);
    uint64_t host;

    rig_fill(r, 0, SIZE, 'a');
    if (file_is_cached(file, 0, BLOCK) < 0) {
        g_test_skip("this kernel does not tell what it has in its cache");
    } else {
        g_assert_cmpint(node_cached_fd(r->io, 2 * BLOCK, 8 * BLOCK, &host), ==, file);
        g_assert_cmpuint(host, ==, host_of(8));
        g_assert_cmpint(node_cached_fd(r->io, BLOCK, 9 * BLOCK, &host), ==, file);
        g_assert_cmpuint(host, ==, host_of(9));
        g_assert_cmpint(node_cached_fd(r->io, 3 * BLOCK, 8 * BLOCK, &host), ==, -1);
        g_assert_cmpint(node_cached_fd(r->io, BLOCK, 10 * BLOCK, &host), ==, -1);
        /* One file that does not tell says nothing about the others. */
        int usual = file;
        file = open(".", O_PATH | O_CLOEXEC);
        g_assert_cmpint(node_cached_fd(r->io, BLOCK, 0, &host), ==, -1);
        close(file);
        file = usual;
        g_assert_cmpint(node_cached_fd(r->io, BLOCK, 0, &host), ==, file);
    }
    end(r);
}

/* A write with FUA is the backend's, whole. */
static void test_fua(void)
{
    struct rig *r = begin(NULL);
    char bytes[2 * BLOCK], found[2 * BLOCK];

    memset(bytes, 'f', sizeof bytes);
    g_assert_cmpint(node_write(r->io, bytes, sizeof bytes, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_WRITE), ==, 1);
    g_assert_cmpuint(fake_backend_fua_calls(r->backend), ==, 1);
    fake_backend_peek(r->backend, found, sizeof found, 0);
    g_assert_cmpmem(found, sizeof found, bytes, sizeof bytes);
    end(r);
}

/* What fails in the file is left to the backend: it may be able to, and its error counts. */
static void test_failing_file(void)
{
    struct rig *r = begin(NULL);
    struct fake_failure failure = {.call = FAKE_WRITE, .error = -ENOSPC};
    char bytes[2 * BLOCK];
    int usual = file;

    memset(bytes, 'x', sizeof bytes);
    g_assert_cmpint(ftruncate(file, 0), ==, 0);
    g_assert_cmpint(node_read(r->io, bytes, sizeof bytes, 0, 0), ==, 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        g_assert_cmpint(bytes[i], ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_READ), ==, 1);

    file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(node_write(r->io, bytes, sizeof bytes, 0, 0), ==, 0);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_WRITE), ==, 1);
    fake_backend_fail(r->backend, &failure);
    g_assert_cmpint(node_write(r->io, bytes, sizeof bytes, 0, 0), ==, -ENOSPC);
    close(file);
    file = usual;
    end(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mapped/random", test_random);
    g_test_add_func("/mapped/view", test_view);
    g_test_add_func("/mapped/now", test_now);
    g_test_add_func("/mapped/send", test_send);
    g_test_add_func("/mapped/fua", test_fua);
    g_test_add_func("/mapped/failing-file", test_failing_file);
    return g_test_run();
}
