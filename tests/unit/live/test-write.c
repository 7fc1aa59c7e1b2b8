/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing to live images of all kinds: random operations against a model, which QEMU's tools judge;
 * and by hand what each kind of entry becomes.
 */
#include "common/live/live-slices.h"
#include "tests/rigs/live-disk.h"
#include "tests/rigs/live-hooks.h"

#include <errno.h>
#include <string.h>

#define K (1 << 10)
#define C (64 * K) /* bytes of a cluster */

/* ---- kinds of images ---- */

static void run_kind(const struct live_disk_kind *kind, bool filled)
{
    struct live_disk d;

    if (!live_disk_make(&d, kind, filled))
        return;
    for (unsigned round = 0; round < 2; round++) {
        live_disk_open(&d, true);
        for (unsigned i = 0; i < 60; i++)
            live_disk_random(&d);
        live_disk_check(&d);
        g_assert_cmpstr(d.told->str, ==, "");
        live_disk_close(&d);
        live_disk_judge(&d);
    }
    live_disk_end(&d);
}

static void test_kind(gconstpointer kind)
{
    run_kind(kind, true);
}

static void test_kind_empty(gconstpointer kind)
{
    run_kind(kind, false);
}

/* ---- by hand: what is written to the file, and which order is asked for ---- */

static void open_hooked(struct live_disk *d)
{
    live_disk_open_ops(d, true, &live_hooked);
    live_disk_check(d); /* tables are in memory */
    live_hooks_reset();
}

static bool begin(struct live_disk *d, const char *make)
{
    if (!live_disk_begin(d))
        return false;
    qcow2_rig_run(&d->rig, "%s", make);
    open_hooked(d);
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

static bool is_flagged(const struct live_disk *d)
{
    return live_slices_flagged(d->image->top);
}

/* Has the disk a place of its own there? */
static bool is_own(const struct live_disk *d, size_t offset)
{
    return live_map(d->image, offset, 1, true).place == LIVE_DATA;
}

#define BASE                                                                                       \
    "qemu-img create -q -f raw base 2M && qemu-io -f raw -c 'write -q -P 9 0 1M' base && "         \
    "qemu-img create -q -f qcow2 -b base -F raw disk.qcow2 8M"

/* Nothing but the guest's bytes, in no order. */
static void test_new(void)
{
    struct live_disk d;

    if (!begin(&d, BASE " && qemu-io -f qcow2 -c 'write -q 7M 64k' disk.qcow2"))
        return;
    live_disk_write(&d, 64 * K, 7 * K * K, 1, 0); /* the reserve is there, and the table */
    live_disk_write(&d, 1, 6 * K * K, 1, 0);
    live_hooks_reset();
    live_disk_write(&d, 4 * K, 3 * K * K + 5 * K, 1, 0);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_WRITE), ==, 1);
    g_assert_cmpuint(live_hooks_bytes(LIVE_CALL_WRITE), ==, 4 * K);
    live_disk_write(&d, 5 * C, 4 * K * K + 1, 1, 0);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_WRITE), ==, 2);
    g_assert_cmpuint(live_hooks_bytes(LIVE_CALL_WRITE), ==, 4 * K + 5 * C);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_READ), ==, 0);
    g_assert_false(is_flagged(&d));
    g_assert_true(is_own(&d, 3 * K * K));
    /* Over a hole of the backing file, and over its end. */
    live_disk_write(&d, 4 * K, 2 * K * K - 2 * K, 1, 0);
    end(&d);
}

/* Whole clusters, which have to be there before their entries. */
static void test_over_data(void)
{
    struct live_disk d;

    if (!begin(&d, BASE))
        return;
    live_disk_write(&d, 1, 6 * K * K, 1, 0);
    live_hooks_reset();
    live_disk_write(&d, 4 * K, 5 * K, 1, 0);
    g_assert_cmpuint(live_hooks_bytes(LIVE_CALL_WRITE), ==, C);
    g_assert_true(is_flagged(&d));
    g_assert_cmpint(live_flush(d.image), ==, 0);
    g_assert_false(is_flagged(&d));
    /* What is overwritten as a whole is not read. */
    live_hooks_reset();
    live_disk_write(&d, 4 * C, 4 * C, 1, 0);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_WRITE), ==, 1);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_READ), ==, 0);
    g_assert_true(is_flagged(&d));
    end(&d);
}

/* Whole subclusters, likewise; and where the cluster has a place already, of which nobody knows
 * what is in it. */
static void test_over_data_extended(void)
{
    struct live_disk d;

    if (!begin(&d, "qemu-img create -q -f raw base 2M && "
                   "qemu-io -f raw -c 'write -q -P 9 0 1M' base && qemu-img create -q -f qcow2 "
                   "-o extended_l2=on,cluster_size=64k -b base -F raw disk.qcow2 8M"))
        return;
    live_disk_write(&d, 1, 6 * K * K, 1, 0);
    g_assert_cmpint(live_flush(d.image), ==, 0);
    live_hooks_reset();
    live_disk_write(&d, 2 * K, 4 * K, 1, 0);
    g_assert_cmpuint(live_hooks_calls(LIVE_CALL_READ), ==, 0);
    g_assert_cmpuint(live_hooks_bytes(LIVE_CALL_WRITE), ==, 2 * K);
    g_assert_true(is_flagged(&d));
    g_assert_cmpint(live_flush(d.image), ==, 0);
    live_hooks_reset();
    live_disk_write(&d, 1 * K, 9 * K, 1, 0);
    g_assert_cmpuint(live_hooks_bytes(LIVE_CALL_WRITE), ==, 2 * K);
    g_assert_true(is_flagged(&d));
    g_assert_cmpint(live_flush(d.image), ==, 0);
    live_disk_write(&d, 1 * K, 4 * K * K, 1, 0);
    g_assert_false(is_flagged(&d));
    end(&d);
}

static void test_over_zero_extended(void)
{
    struct live_disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k disk.qcow2 8M "
                   "&& qemu-io -f qcow2 -c 'write -q -P 9 0 64k' -c 'write -q -z 8k 8k' "
                   "disk.qcow2"))
        return;
    live_disk_write(&d, 100, 9 * K, 1, 0);
    g_assert_true(is_flagged(&d));
    end(&d);
}

static void test_over_compressed(void)
{
    struct live_disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 disk.qcow2 8M && "
                   "qemu-io -f qcow2 -c 'write -q -c -P 9 0 1M' disk.qcow2"))
        return;
    live_disk_write(&d, 4 * K, 5 * K, 1, 0);
    g_assert_true(is_flagged(&d));
    g_assert_true(is_own(&d, 0));
    live_disk_write(&d, 4 * C, 2 * C, 1, 0);
    g_assert_cmpint(live_flush(d.image), ==, 0);
    end(&d);
}

/* A zero cluster with a place may have anything there. */
static void test_over_preallocated_zero(void)
{
    struct live_disk d;
    uint64_t host;

    if (!begin(&d, "qemu-img create -q -f qcow2 -o preallocation=metadata disk.qcow2 8M && "
                   "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' -c 'write -q -z 0 1M' disk.qcow2"))
        return;
    host = qcow2_rig_get(&d.rig, d.name, qcow2_rig_l2(&d.rig, d.name, 0), 8);
    g_assert_cmpuint(host & 1, ==, 1);
    live_disk_write(&d, 4 * K, 5 * K, 1, 0);
    g_assert_cmpuint(live_hooks_bytes(LIVE_CALL_WRITE), ==, C);
    g_assert_true(is_flagged(&d));
    g_assert_cmphex(live_map(d.image, 0, 1, true).host, ==, host & 0xfffffffffffe00);
    end(&d);
}

/* Data of a cluster that is not marked as the disk's own: they move. */
static void test_over_shared(void)
{
    struct live_disk d;
    uint64_t at, word;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f qcow2 disk.qcow2 8M && "
                          "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' disk.qcow2");
    at = qcow2_rig_l2(&d.rig, d.name, 1);
    word = qcow2_rig_get(&d.rig, d.name, at, 8);
    qcow2_rig_put(&d.rig, d.name, at, 8, word & ~(UINT64_C(1) << 63));
    open_hooked(&d);
    g_assert_false(is_own(&d, C));
    g_assert_cmpint(live_map(d.image, C, 1, false).place, ==, LIVE_SLOW);
    live_disk_write(&d, 4 * K, C + 5 * K, 1, 0);
    g_assert_true(is_flagged(&d));
    g_assert_cmphex(live_map(d.image, C, 1, true).host, !=, word & 0xfffffffffffe00);
    end(&d);
}

/* ---- by hand: what fails ---- */

static int try_write(struct live_disk *d, size_t length, size_t offset)
{
    g_autofree uint8_t *bytes = g_malloc0(length);

    memset(bytes, 0xee, length);
    return live_pwrite(d->image, bytes, length, offset, 0);
}

/* Nothing has changed, and it works when the file does. */
static void assert_fails(struct live_disk *d, enum live_call call, int error, size_t length,
                         size_t offset)
{
    live_hooks_fail(call, error);
    g_assert_cmpint(try_write(d, length, offset), ==, error);
    live_hooks_fail(call, 0);
    live_disk_check(d);
    live_disk_write(d, length, offset, 3, 0);
    live_disk_check(d);
}

static void test_write_fails(void)
{
    struct live_disk d;

    if (!begin(&d, BASE " && qemu-io -f qcow2 -c 'write -q -c -P 8 512k 64k' disk.qcow2"))
        return;
    live_disk_write(&d, 1, 6 * K * K, 1, 0);
    assert_fails(&d, LIVE_CALL_WRITE, -EIO, 4 * K, 3 * K * K);
    assert_fails(&d, LIVE_CALL_WRITE, -EIO, 4 * K, 5 * K);
    assert_fails(&d, LIVE_CALL_WRITE, -ENOSPC, 4 * C, 4 * C);
    assert_fails(&d, LIVE_CALL_WRITE, -ENOSPC, 4 * K, 512 * K + 7);
    assert_fails(&d, LIVE_CALL_READ, -EIO, 4 * K, 900 * K);
    end(&d);
}

static void test_no_space(void)
{
    struct live_disk d;

    if (!begin(&d, BASE))
        return;
    assert_fails(&d, LIVE_CALL_EXTEND, -ENOSPC, 4 * K, 3 * K * K);
    end(&d);
}

static void test_read_only(void)
{
    struct live_disk d;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "%s", BASE);
    live_disk_open(&d, false);
    g_assert_cmpint(try_write(&d, 512, 0), ==, -EROFS);
    g_assert_cmpint(live_zero(d.image, 512, 0, 0), ==, -EROFS);
    g_assert_cmpint(live_trim(d.image, 512, 0, 0), ==, -EROFS);
    g_assert_cmpint(live_flush(d.image), ==, 0);
    live_disk_check(&d);
    live_disk_close(&d);
    live_disk_end(&d);
}

/* An entry that leads to a table is not written to, and the image is written no more. */
static void test_damaged(void)
{
    struct live_disk d;

    if (!live_disk_begin(&d))
        return;
    qcow2_rig_run(&d.rig, "qemu-img create -q -f qcow2 disk.qcow2 8M && "
                          "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' disk.qcow2");
    d.model = qcow2_rig_disk(&d.rig, d.name, &d.size);
    qcow2_rig_put(&d.rig, d.name, qcow2_rig_l2(&d.rig, d.name, 1), 8, UINT64_C(1) << 63 | C);
    live_disk_open(&d, true);
    live_disk_write(&d, 4 * K, 0, 1, 0);
    g_assert_cmpint(try_write(&d, 4 * K, C), ==, -EIO);
    g_assert_true(live_disk_was_told(&d, "disk.qcow2"));
    g_assert_cmpint(try_write(&d, 4 * K, 4 * C), ==, -EIO);
    g_assert_cmpint(live_map(d.image, 0, 1, true).place, ==, LIVE_SLOW);
    live_disk_check_range(&d, C, 0);
    live_disk_check_range(&d, 4 * C, 4 * C);
    live_close(d.image, NULL);
    d.image = NULL;
    live_disk_end(&d);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < live_disk_n_kinds; i++) {
        const struct live_disk_kind *kind = &live_disk_kinds[i];
        g_autofree char *path = g_strdup_printf("/write/kinds/%s", kind->name);
        g_autofree char *empty = g_strdup_printf("/write/kinds-empty/%s", kind->name);

        g_test_add_data_func(path, kind, test_kind);
        g_test_add_data_func(empty, kind, test_kind_empty);
    }
    g_test_add_func("/write/new", test_new);
    g_test_add_func("/write/over-data", test_over_data);
    g_test_add_func("/write/over-data-extended", test_over_data_extended);
    g_test_add_func("/write/over-zero-extended", test_over_zero_extended);
    g_test_add_func("/write/over-compressed", test_over_compressed);
    g_test_add_func("/write/over-preallocated-zero", test_over_preallocated_zero);
    g_test_add_func("/write/over-shared", test_over_shared);
    g_test_add_func("/write/write-fails", test_write_fails);
    g_test_add_func("/write/no-space", test_no_space);
    g_test_add_func("/write/read-only", test_read_only);
    g_test_add_func("/write/damaged", test_damaged);
    return g_test_run();
}
