/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroing and trimming live images: what becomes of each kind of entry, and of the file. Random
 * ones are in test-write. */
#include "common/live/live-slices.h"
#include "tests/rigs/live-disk.h"
#include "tests/rigs/live-hooks.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define K (1 << 10)
#define M (K * K)
#define C (64 * K) /* bytes of a cluster */

#define BASE                                                                                       \
    "qemu-img create -q -f raw base 2M && qemu-io -f raw -c 'write -q -P 9 0 1M' base && "         \
    "qemu-img create -q -f qcow2 -b base -F raw "

static bool begin(struct live_disk *d, const char *make)
{
    if (!live_disk_begin(d))
        return false;
    qcow2_rig_run(&d->rig, "%s", make);
    live_disk_open_ops(d, true, &live_hooked);
    live_disk_check(d); /* tables are in memory */
    live_hooks_reset();
    return true;
}

static void end(struct live_disk *d)
{
    live_hooks_reset();
    live_disk_check(d);
    live_disk_close(d);
    live_disk_judge(d);
    live_disk_end(d);
}

static uint64_t room_of_file(const struct live_disk *d)
{
    struct stat st;

    g_assert_cmpint(fstat(live_fd(d->image), &st), ==, 0);
    return (uint64_t)st.st_blocks * 512;
}

static bool is_own(const struct live_disk *d, size_t offset)
{
    return live_map(d->image, offset, 1, true).place == LIVE_DATA;
}

static bool is_dirty(const struct live_disk *d)
{
    return live_slices_dirty(d->image->top);
}

/* A zero entry without a place, or no entry. */
static bool is_zero_entry(const struct live_disk *d, size_t offset)
{
    struct live_run run;

    g_assert_cmpint(live_slices_run_wait(d->image->top, offset, 1, &run), ==, 0);
    return run.kind == Q2_ZERO && !run.own && !run.host;
}

/* ---- own data ---- */

/* Its place stays, and its room goes. */
static void test_own(void)
{
    struct live_disk d;
    uint64_t room, host;

    if (!begin(&d, "qemu-img create -q -f qcow2 disk.qcow2 8M"))
        return;
    live_disk_write(&d, 4 * M, 0, 1, 0);
    g_assert_cmpint(live_flush(d.image), ==, 0);
    room = room_of_file(&d);
    host = live_map(d.image, 3 * C, 1, true).host;
    live_disk_zero(&d, 2 * M, 10, LIVE_MAY_TRIM);
    g_assert_cmpuint(room_of_file(&d), <=, room - 2 * M + 8 * K);
    g_assert_cmphex(live_map(d.image, 3 * C, 1, true).host, ==, host);
    live_disk_check(&d);
    live_disk_write(&d, 3 * C, 3 * C + 17, 1, 0);
    live_disk_trim(&d, 2 * C, 3 * C);
    for (unsigned i = 0; i < 2 * C; i++)
        g_assert_cmpuint(d.model[3 * C + i], ==, 0);
    room = room_of_file(&d);
    live_disk_zero(&d, C, 10 * C, 0);
    g_assert_cmpuint(room_of_file(&d), >=, room);
    g_assert_false(is_dirty(&d));
    end(&d);
}

/* A file system that makes no zeroes: they are written, but for who wants it fast. */
static void test_own_written(void)
{
    struct live_disk d;

    if (!begin(&d, BASE "disk.qcow2 8M"))
        return;
    live_disk_write(&d, 4 * M, 2 * M, 1, 0);
    live_hooks_fail(LIVE_CALL_ZERO, -ENOTSUP);
    g_assert_cmpint(live_zero(d.image, 3 * M, 2 * M, LIVE_FAST), ==, -ENOTSUP);
    /* There is something else before it, too. */
    g_assert_cmpint(live_zero(d.image, 5 * M, 0, LIVE_FAST | LIVE_MAY_TRIM), ==, -ENOTSUP);
    live_disk_check(&d);
    g_assert_cmpint(live_trim(d.image, 3 * M, 2 * M, 0), ==, 0);
    live_disk_check(&d);
    live_disk_zero(&d, 3 * M + 1, 2 * M + 100, LIVE_MAY_TRIM);
    live_disk_check(&d);
    live_hooks_fail(LIVE_CALL_ZERO, -EIO);
    g_assert_cmpint(live_zero(d.image, 3 * M, 2 * M, 0), ==, -EIO);
    end(&d);
}

/* ---- data below, compressed ---- */

static void test_below(void)
{
    struct live_disk d;

    if (!begin(&d, BASE "disk.qcow2 8M"))
        return;
    live_disk_write(&d, 1, 6 * M, 1, 0); /* the reserve is there, and the table */
    live_hooks_reset();
    live_disk_zero(&d, 4 * C, 2 * C, 0);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_WRITE), ==, 0);
    g_assert_true(is_zero_entry(&d, 2 * C));
    live_disk_check(&d);
    live_disk_trim(&d, 2 * C, 8 * C - 100);
    g_assert_true(is_zero_entry(&d, 8 * C));
    g_assert_false(is_zero_entry(&d, 7 * C));
    g_assert_false(is_zero_entry(&d, 9 * C));
    g_assert_cmpuint(d.model[8 * C], ==, 0);
    g_assert_cmpuint(d.model[8 * C - 1], ==, 9);
    live_disk_zero(&d, 2 * C, 10 * C - 100, LIVE_FAST);
    g_assert_cmpuint(d.model[10 * C], ==, 9); /* refused */
    live_disk_check(&d);
    live_disk_zero(&d, 2 * C, 10 * C - 100, 0);
    g_assert_cmpuint(d.model[10 * C], ==, 0);
    live_disk_check(&d);
    end(&d);
}

/* What reads as zeroes needs nothing. */
static void test_nothing_to_do(void)
{
    struct live_disk d;

    if (!begin(&d, BASE "-o cluster_size=64k disk.qcow2 200M"))
        return;
    live_disk_zero(&d, 190 * M, 2 * M, 0);
    live_disk_zero(&d, 190 * M + 3, 2 * M + 5, LIVE_FAST);
    live_disk_trim(&d, 190 * M, 2 * M);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_WRITE), ==, 0);
    g_assert_false(is_dirty(&d));
    end(&d);
}

static void test_compressed(void)
{
    struct live_disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 disk.qcow2 8M && "
                   "qemu-io -f qcow2 -c 'write -q -c -P 9 0 2M' disk.qcow2"))
        return;
    live_disk_zero(&d, 4 * C, 2 * C - 5, LIVE_MAY_TRIM);
    g_assert_true(is_zero_entry(&d, 2 * C));
    g_assert_true(is_own(&d, C));
    live_disk_trim(&d, 3 * C, 8 * C - 5);
    g_assert_true(is_zero_entry(&d, 8 * C));
    g_assert_false(is_own(&d, 7 * C));
    g_assert_cmpint(live_flush(d.image), ==, 0);
    end(&d);
}

static void test_preallocated(void)
{
    struct live_disk d;
    struct live_run run;

    if (!begin(&d, "qemu-img create -q -f qcow2 -o preallocation=metadata disk.qcow2 8M && "
                   "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' -c 'write -q -z 0 512k' disk.qcow2"))
        return;
    live_disk_zero(&d, M, 0, LIVE_MAY_TRIM);
    g_assert_cmpint(live_slices_run_wait(d.image->top, 0, 1, &run), ==, 0);
    g_assert_cmpint(run.kind, ==, Q2_ZERO);
    g_assert_true(run.own);
    g_assert_false(is_dirty(&d));
    end(&d);
}

/* Version 2 has no entries for zeroes: clusters are taken that are. */
static void test_version_2(void)
{
    struct live_disk d;

    if (!begin(&d, BASE "-o compat=0.10 disk.qcow2 8M"))
        return;
    live_disk_zero(&d, 4 * C, 2 * C - 7, LIVE_MAY_TRIM);
    g_assert_true(is_own(&d, 2 * C));
    live_disk_trim(&d, 4 * C, 8 * C);
    g_assert_cmpuint(d.model[8 * C], ==, 9);
    g_assert_false(is_own(&d, 8 * C));
    live_disk_zero(&d, 8 * C, 8 * C, LIVE_FAST);
    g_assert_cmpuint(d.model[8 * C], ==, 0);
    end(&d);
}

/* Subclusters. */
static void test_extended(void)
{
    struct live_disk d;
    struct live_run run;

    if (!begin(&d, BASE "-o extended_l2=on,cluster_size=64k disk.qcow2 8M"))
        return;
    live_disk_zero(&d, 8 * K, 4 * K, LIVE_FAST);
    g_assert_cmpuint(d.model[4 * K], ==, 0);
    g_assert_true(is_zero_entry(&d, 4 * K));
    live_disk_trim(&d, 8 * K, 20 * K + 1);
    g_assert_cmpuint(d.model[22 * K], ==, 0);
    g_assert_cmpuint(d.model[20 * K + 1], ==, 9);
    live_disk_write(&d, 2 * K, 30 * K, 1, 0);
    g_assert_true(is_own(&d, 30 * K));
    live_disk_zero(&d, 8 * K, 28 * K, 0);
    g_assert_true(is_own(&d, 30 * K));
    g_assert_cmpint(live_slices_run_wait(d.image->top, 28 * K, 1, &run), ==, 0);
    g_assert_cmpint(run.kind, ==, Q2_ZERO);
    live_disk_zero(&d, 3 * C, 100, 0);
    end(&d);
}

/* The end of the disk is not that of a cluster. */
static void test_end_of_disk(void)
{
    struct live_disk d;

    if (!begin(&d, BASE "disk.qcow2 1000K"))
        return;
    live_disk_zero(&d, 40 * K, 960 * K, LIVE_FAST);
    g_assert_cmpuint(d.model[999 * K], ==, 0);
    g_assert_true(is_zero_entry(&d, 960 * K));
    end(&d);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/zero/own", test_own);
    g_test_add_func("/zero/own-written", test_own_written);
    g_test_add_func("/zero/below", test_below);
    g_test_add_func("/zero/nothing-to-do", test_nothing_to_do);
    g_test_add_func("/zero/compressed", test_compressed);
    g_test_add_func("/zero/preallocated", test_preallocated);
    g_test_add_func("/zero/version-2", test_version_2);
    g_test_add_func("/zero/extended", test_extended);
    g_test_add_func("/zero/end-of-disk", test_end_of_disk);
    return g_test_run();
}
