/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeping old data where it is not straight: several views, their limits, what cannot be kept, and
 * the edges of blocks and pieces. The plain cases are in test-view.c, test-view-race.c and test-
 * view-break.c.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define UNIT UINT64_C(4096)

static struct view *snapshot(struct rig *r, const char *name)
{
    return rig_view(r, name, CBW_BREAK_SNAPSHOT, 0);
}

static void trim_view(struct view *v, uint64_t offset, uint64_t length)
{
    struct node_io *io;

    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_trim(io, length, offset, 0), ==, 0);
    node_io_close(io);
}

/* ---- what cannot be kept ---- */

/* The newest view is to break rather than the guest's write; an older one that needs the block from
 * it is to fail the write. So the write fails, and neither view is broken. */
static void test_older_view_refuses(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_GUEST_WRITE, 0);
    new = snapshot(r, "new");
    atomic_store(&r->failing_scratch_writes, 1);
    g_assert_cmpint(rig_try_fill(r, 0, UNIT, 'b'), ==, -EIO);
    g_assert_false(view_is_broken(old));
    g_assert_false(view_is_broken(new));
    assert_view(old, 0, 64 * KIB, 'a');
    assert_view(new, 0, 64 * KIB, 'a');
    g_assert_true(node_is(disk_node(r->disk), 0, 64 * KIB, 'a'));
    rig_fill(r, 0, UNIT, 'b');
    assert_view(old, 0, 64 * KIB, 'a');

    /* It needs nothing from the newer view where it has kept the block itself. */
    new = snapshot(r, "newest");
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 0, UNIT, 'c');
    g_assert_true(view_is_broken(new));
    assert_view(old, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* A view that is broken refuses nothing any more. */
static void test_broken_view_refuses_nothing(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_GUEST_WRITE, 0);
    new = snapshot(r, "new");
    view_break(old, "for the test");
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 0, UNIT, 'b');
    g_assert_true(view_is_broken(new));
    rig_free(r);
}

/* An older view whose client has trimmed the block has lost nothing. */
static void test_trimmed_block_breaks_nobody(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = rig_view(r, "old", CBW_BREAK_GUEST_WRITE, 0);
    new = snapshot(r, "new");
    trim_view(old, 0, UNIT);
    atomic_store(&r->failing_scratch_writes, 1);
    rig_fill(r, 0, UNIT, 'b');
    g_assert_true(view_is_broken(new));
    g_assert_false(view_is_broken(old));
    assert_view(old, 0, UNIT, 0);
    assert_view(old, UNIT, 60 * KIB, 'a');
    rig_free(r);
}

/* The file takes no more. The slot has been used before, so the block goes straight to the file,
 * and the writer that keeps it hears of the error. */
static void test_file_is_full(void)
{
    struct rig *r = rig_new(128 * KIB, 0);
    struct rlimit limit, small;
    struct view_info info;
    struct view *v;

    signal(SIGXFSZ, SIG_IGN);
    rig_fill(r, 0, 128 * KIB, 'a');
    v = snapshot(r, "v");
    rig_fill(r, 0, 64 * KIB, 'b'); /* one segment, full and written */
    trim_view(v, 60 * KIB, UNIT);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    small = limit;
    small.rlim_cur = UNIT;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    rig_fill(r, 64 * KIB, UNIT, 'b');
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    view_info(v, &info);
    g_assert_true(info.broken);
    g_assert_nonnull(strstr(info.reason, "disk vda: scratch: write at 61440: File too large"));
    g_assert_cmpuint(rig_kept(v), ==, 60 * KIB);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 60 * KIB);
    rig_free(r);
}

/* A view breaks in the middle of a write of many blocks: the older one keeps all the rest. */
static void test_breaks_in_mid_write(void)
{
    struct rig *r = rig_new(256 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 256 * KIB, 'a');
    old = snapshot(r, "old");
    new = rig_view(r, "new", CBW_BREAK_SNAPSHOT, 16 * UNIT);
    rig_fill(r, 0, 4 * UNIT, 'b');
    rig_fill(r, 0, 256 * KIB, 'c'); /* more than the new view may keep */
    g_assert_true(view_is_broken(new));
    g_assert_false(view_is_broken(old));
    assert_view(old, 0, 256 * KIB, 'a');
    g_assert_cmpuint(rig_kept(new) + rig_kept(old), ==, 256 * KIB);
    rig_fill(r, 0, 256 * KIB, 'd'); /* nobody waits for a block that was claimed */
    assert_view(old, 0, 256 * KIB, 'a');
    rig_free(r);
}

/* A view that keeps exactly as much as its limit does not break, be it by one write or by
 * several. */
static void test_limit_to_the_block(void)
{
    struct rig *r = rig_new(256 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 256 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 40 * UNIT);
    rig_fill(r, 0, 39 * UNIT, 'b');
    rig_fill(r, 39 * UNIT, UNIT, 'b');
    g_assert_false(view_is_broken(v));
    assert_view(v, 0, 256 * KIB, 'a');
    rig_fill(r, 40 * UNIT, UNIT, 'b');
    g_assert_true(view_is_broken(v));
    rig_delete(r, v);

    /* A write of many blocks never takes a view past its limit. */
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 20 * UNIT);
    rig_fill(r, 0, 21 * UNIT, 'c');
    g_assert_true(view_is_broken(v));
    g_assert_cmpuint(rig_kept(v), <=, 20 * UNIT);
    rig_delete(r, v);

    /* What is zero costs nothing. */
    rig_fill(r, 0, 256 * KIB, 0);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, UNIT);
    rig_fill(r, 0, 256 * KIB, 'd');
    g_assert_false(view_is_broken(v));
    assert_view(v, 0, 256 * KIB, 0);
    rig_free(r);
}

/* Old data that cannot be read is not kept. Where the write fails for that, nothing has changed. */
static void test_old_data_unreadable(void)
{
    struct fake_failure failure = {.call = FAKE_READ, .error = -EIO};
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_GUEST_WRITE, 0);
    fake_backend_fail(r->backend, &failure);
    g_assert_cmpint(rig_try_fill(r, 0, 2 * UNIT, 'b'), ==, -EIO);
    failure.error = 0;
    g_assert_cmpuint(rig_kept(v), ==, 0);
    assert_view(v, 0, 64 * KIB, 'a');
    rig_free(r);
}

/* ---- runs, and the edges of blocks ---- */

/* A write longer than the copy buffer and than a segment of scratch, from the middle of a block to
 * the middle of another, over data, zeroes and holes in turn. */
static void test_long_write(void)
{
    const uint64_t size = 2 * MIB;
    struct rig *r = rig_new(size, 0);
    g_autofree char *before = g_malloc(size);
    struct view *v;

    for (uint64_t b = 0; b < size / UNIT; b++)
        if (b % 7 != 3) /* a hole; else zero or a byte of its own */
            rig_fill(r, b * UNIT, UNIT, (char)(b % 7 == 5 ? 0 : b % 100 + 1));
    fake_backend_peek(r->backend, before, size, 0);
    v = snapshot(r, "v");
    rig_fill(r, 1000, size - 2000, 'x');
    assert_view_bytes(v, 0, size, before);
    /* From and to the middle of blocks, and of segments. */
    for (uint64_t at = 100; at + 70000 < size; at += 61 * KIB + 13)
        assert_view_bytes(v, at, 70000, before + at);
    rig_free(r);
}

/* The last block is short: no more and no less of it is kept, zero or not. */
static void test_short_last_block(void)
{
    const uint64_t size = 9 * UNIT + 1000;
    struct rig *r = rig_new(size, 0);
    struct view *v;

    rig_fill(r, 0, size, 'a');
    rig_fill(r, 9 * UNIT, 1000, 0);
    v = snapshot(r, "v");
    rig_fill(r, 0, UNIT, 'b'); /* the copy buffer has something else in it */
    rig_fill(r, 9 * UNIT - 1, 2, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 2 * UNIT); /* not the zeroes */
    assert_view(v, 0, 9 * UNIT, 'a');
    assert_view(v, 9 * UNIT, 1000, 0);
    trim_view(v, 8 * UNIT, UNIT + 1000);
    g_assert_cmpuint(rig_kept(v), ==, UNIT);
    assert_view(v, 8 * UNIT, UNIT + 1000, 0);
    rig_delete(r, v);

    v = snapshot(r, "v");
    rig_fill(r, size - 1, 1, 'c');
    g_assert_cmpuint(rig_kept(v), ==, UNIT);
    trim_view(v, 9 * UNIT, 999); /* not to its end */
    g_assert_cmpuint(rig_kept(v), ==, UNIT);
    trim_view(v, 9 * UNIT, 1000);
    g_assert_cmpuint(rig_kept(v), ==, 0);
    rig_free(r);
}

/* A view from before the disk has grown ends where the disk ended, to the block. */
static void test_growth(void)
{
    struct rig *r = rig_new(4 * UNIT, 0);
    struct view *old, *new;
    GError *error = NULL;

    rig_fill(r, 0, 4 * UNIT, 'a');
    old = snapshot(r, "old");
    disk_resize(r->disk, 8 * UNIT, &error);
    g_assert_no_error(error);
    rig_fill(r, 3 * UNIT, 2 * UNIT, 'b');
    g_assert_cmpuint(rig_kept(old), ==, UNIT);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, UNIT);
    /* Its map ends there; the page that holds it does not. */
    g_assert_cmpuint(atomic_load(&old->map[4]), ==, BLOCK_NEEDED);
    new = snapshot(r, "new");
    rig_fill(r, 0, 8 * UNIT, 'c'); /* new keeps 0 to 4; the rest is holes */
    g_assert_cmpuint(rig_kept(new), ==, 5 * UNIT);
    assert_view(old, 0, 4 * UNIT, 'a');
    assert_view(new, 3 * UNIT, 2 * UNIT, 'b');
    assert_view(new, 5 * UNIT, 3 * UNIT, 0);
    rig_delete(r, new); /* old inherits 0 to 2 */
    g_assert_cmpuint(rig_kept(old), ==, 4 * UNIT);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 4 * UNIT);
    assert_view(old, 0, 4 * UNIT, 'a');
    rig_free(r);
}

/* ---- who inherits ---- */

/* A view with three blocks is deleted, of which an older view needs the middle one. Only the other
 * slots come back. */
static void test_inherits_between_surplus(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    for (uint64_t b = 0; b < 16; b++)
        rig_fill(r, b * UNIT, UNIT, (char)('A' + b));
    old = snapshot(r, "old");
    rig_fill(r, 0, UNIT, 'b');
    rig_fill(r, 2 * UNIT, UNIT, 'b');
    new = snapshot(r, "new");
    rig_fill(r, 0, 3 * UNIT, 'c');
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 5 * UNIT);
    rig_delete(r, new);
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 3 * UNIT);
    new = snapshot(r, "newer");
    rig_fill(r, 0, 64 * KIB, 'd'); /* takes all slots that came back */
    for (uint64_t b = 0; b < 16; b++) {
        assert_view(old, b * UNIT, UNIT, (char)('A' + b));
        assert_view(new, b * UNIT, UNIT, b < 3 ? 'c' : (char)('A' + b));
    }
    rig_free(r);
}

/* A broken view inherits nothing. Marks of holes and zeroes cost their heir nothing. */
static void test_who_inherits(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *oldest, *middle, *newest;

    rig_fill(r, 0, UNIT, 'a');
    rig_fill(r, UNIT, UNIT, 0);
    oldest = snapshot(r, "oldest");
    middle = snapshot(r, "middle");
    newest = snapshot(r, "newest");
    rig_fill(r, 0, 3 * UNIT, 'b'); /* data, zeroes, a hole */
    view_break(middle, "for the test");
    rig_delete(r, newest);
    g_assert_cmpuint(rig_kept(oldest), ==, UNIT);
    g_assert_cmpuint(rig_kept(middle), ==, 0);
    rig_delete(r, middle);
    assert_view(oldest, 0, UNIT, 'a');
    assert_view(oldest, UNIT, 2 * UNIT, 0);
    trim_view(oldest, 0, 4 * UNIT);
    g_assert_cmpuint(rig_kept(oldest), ==, 0);
    rig_free(r);
}

/* A run of a write does not take in a block that another view has to keep. */
static void test_run_of_two_views(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *old, *new;

    rig_fill(r, 0, 64 * KIB, 'a');
    old = snapshot(r, "old");
    new = snapshot(r, "new");
    trim_view(new, UNIT, UNIT);
    rig_fill(r, 0, 3 * UNIT, 'b');
    g_assert_cmpuint(rig_kept(new), ==, 2 * UNIT);
    g_assert_cmpuint(rig_kept(old), ==, UNIT);
    assert_view(old, 0, 64 * KIB, 'a');
    assert_view(new, 0, UNIT, 'a');
    assert_view(new, UNIT, UNIT, 0);
    assert_view(new, 2 * UNIT, UNIT, 'a');
    rig_free(r);
}

/* ---- scratch that is lost ---- */

/* Cut the one file in the folder of temporary files that we have open. */
static void cut_scratch(void)
{
    for (int fd = 3; fd < 100; fd++) {
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *target = g_file_read_link(link, NULL);

        if (target && g_str_has_prefix(target, g_get_tmp_dir()) &&
            g_str_has_suffix(target, " (deleted)")) {
            g_assert_cmpint(ftruncate(fd, 0), ==, 0);
            return;
        }
    }
    g_assert_not_reached();
}

/* A block that cannot be read back is an error to the view's client, and not some other data. */
static void test_scratch_unreadable(void)
{
    struct rig *r = rig_new(128 * KIB, 0);
    struct node_io *io;
    struct view *v;
    char buf[4096];

    rig_fill(r, 0, 128 * KIB, 'a');
    v = snapshot(r, "v");
    rig_fill(r, 0, 64 * KIB, 'b');
    cut_scratch();
    g_assert_cmpint(node_io_open(view_node(v), false, false, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_read(io, buf, sizeof buf, 0, 0), <, 0);
    g_assert_cmpint(node_read(io, buf, sizeof buf, 64 * KIB, 0), ==, 0);
    g_assert_cmpint(node_read(io, buf, sizeof buf, 64 * KIB - 2048, 0), <, 0);
    node_io_close(io);
    rig_free(r);
}

/* ---- holes ---- */

/* There are disks whose holes do not read as zeroes. Such holes are kept as data. */
static void test_hole_with_data(gconstpointer how)
{
    const uint64_t size = 16 * MIB;
    uint64_t length = strcmp(how, "long") == 0 ? size : 1 * MIB;
    struct rig *r = rig_new(size, 0);
    struct view *v;

    fake_backend_set_holes(r->backend, EXTENT_HOLE, 'h');
    v = snapshot(r, "v");
    g_assert_cmpint(node_trim(r->io, length, 0, 0), ==, 0);
    g_assert_cmpuint(rig_kept(v), ==, length);
    assert_view(v, 0, size, 'h');
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keep/older-view-refuses", test_older_view_refuses);
    g_test_add_func("/keep/broken-view-refuses-nothing", test_broken_view_refuses_nothing);
    g_test_add_func("/keep/trimmed-block-breaks-nobody", test_trimmed_block_breaks_nobody);
    g_test_add_func("/keep/file-is-full", test_file_is_full);
    g_test_add_func("/keep/scratch-unreadable", test_scratch_unreadable);
    g_test_add_func("/keep/breaks-in-mid-write", test_breaks_in_mid_write);
    g_test_add_func("/keep/limit-to-the-block", test_limit_to_the_block);
    g_test_add_func("/keep/old-data-unreadable", test_old_data_unreadable);
    g_test_add_func("/keep/long-write", test_long_write);
    g_test_add_func("/keep/short-last-block", test_short_last_block);
    g_test_add_func("/keep/growth", test_growth);
    g_test_add_func("/keep/inherits-between-surplus", test_inherits_between_surplus);
    g_test_add_func("/keep/who-inherits", test_who_inherits);
    g_test_add_func("/keep/run-of-two-views", test_run_of_two_views);
    g_test_add_data_func("/keep/hole-with-data/long", "long", test_hole_with_data);
    g_test_add_data_func("/keep/hole-with-data/short", "short", test_hole_with_data);
    return g_test_run();
}
