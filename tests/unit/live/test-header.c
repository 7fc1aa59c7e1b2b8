/* SPDX-License-Identifier: BSD-3-Clause */
/* Changing the header of an image: the fields that are meant, in one write, and nothing else. */
#include "tests/rigs/space-rig.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define SECTOR 512

static bool begin(struct space_rig *r, const char *options)
{
    if (!space_rig_begin(r))
        return false;
    qcow2_rig_run(&r->files, "qemu-img create -q -f qcow2 -o %s i.qcow2 64M", options);
    return true;
}

static uint64_t get(struct space_rig *r, uint64_t at, unsigned width)
{
    return qcow2_rig_get(&r->files, "i.qcow2", at, width);
}

/* The first sector is the one that was kept, but for [from, to). */
static void assert_changed(struct space_rig *r, size_t from, size_t to)
{
    const uint8_t *old = g_bytes_get_data(r->kept, NULL);
    g_autofree uint8_t *now = NULL;
    size_t size;

    now = qcow2_rig_bytes(&r->files, "i.qcow2", &size);
    g_assert_cmpmem(old, from, now, from);
    g_assert_cmpmem(old + to, size - to, now + to, size - to);
}

static void test_fields(void)
{
    struct space_rig r;

    if (!begin(&r, "compat=1.1"))
        return;
    qcow2_rig_put(&r.files, "i.qcow2", 80, 8, 0x8000000000000000);
    space_rig_keep(&r);
    space_rig_must_open(&r);
    g_assert_cmpuint(r.changes, ==, 0);

    g_assert_cmpint(live_header_set_size(&r.image, 128 << 20), ==, 0);
    g_assert_cmpuint(get(&r, 24, 8), ==, 128 << 20);
    g_assert_cmpuint(r.image.header.size, ==, 128 << 20);
    assert_changed(&r, 24, 32);
    g_assert_cmpint(live_header_set_l1(&r.image, 0x123456789a0000, 77), ==, 0);
    g_assert_cmpuint(get(&r, 36, 4), ==, 77);
    g_assert_cmpuint(get(&r, 40, 8), ==, 0x123456789a0000);
    g_assert_cmpuint(r.image.header.l1_size, ==, 77);
    g_assert_cmpuint(r.image.header.l1_offset, ==, 0x123456789a0000);
    g_assert_cmpint(live_header_set_refcount_table(&r.image, 0x23456789a00000, 5), ==, 0);
    g_assert_cmpuint(get(&r, 48, 8), ==, 0x23456789a00000);
    g_assert_cmpuint(get(&r, 56, 4), ==, 5);
    g_assert_cmpuint(r.image.header.refcount_table_offset, ==, 0x23456789a00000);
    g_assert_cmpuint(r.image.header.refcount_table_clusters, ==, 5);
    g_assert_cmpint(live_header_set_corrupt(&r.image), ==, 0);
    g_assert_cmpuint(get(&r, 72, 8), ==, Q2_INCOMPATIBLE_CORRUPT);
    g_assert_cmpuint(r.image.header.incompatible, ==, Q2_INCOMPATIBLE_CORRUPT);
    assert_changed(&r, 24, 80);
    g_assert_cmpuint(r.changes, ==, 4);
    space_rig_end(&r);
}

/* A change that failed is not part of the next one. */
static void test_failure(void)
{
    struct space_rig r;
    uint64_t l1;

    if (!begin(&r, "compat=1.1"))
        return;
    space_rig_keep(&r);
    space_rig_must_open(&r);
    l1 = r.image.header.l1_offset;
    r.fail_at = 0;
    r.error = -ENOSPC;
    g_assert_cmpint(live_header_set_l1(&r.image, 1 << 20, 9), ==, -ENOSPC);
    g_assert_cmpuint(r.image.header.l1_offset, ==, l1);
    g_assert_cmpint(live_header_set_size(&r.image, 65 << 20), ==, 0);
    assert_changed(&r, 24, 32);
    space_rig_end(&r);
}

/* ---- at the start ---- */

static void test_autoclear(void)
{
    struct q2_error err = {0};
    struct space_rig r;

    if (!begin(&r, "compat=1.1"))
        return;
    qcow2_rig_put(&r.files, "i.qcow2", 88, 8, 0xfffffffffffffffe);
    space_rig_keep(&r);
    space_rig_must_open(&r);
    g_assert_cmpuint(get(&r, 88, 8), ==, Q2_AUTOCLEAR_RAW_DATA_FILE);
    g_assert_cmpuint(r.image.header.autoclear, ==, Q2_AUTOCLEAR_RAW_DATA_FILE);
    assert_changed(&r, 88, 96);
    g_assert_cmpint(live_header_set_size(&r.image, 64 << 20), ==, 0);
    assert_changed(&r, 88, 96);

    /* It must not be opened where that fails. */
    space_rig_reset(&r);
    qcow2_rig_put(&r.files, "i.qcow2", 88, 8, 4);
    r.fail_at = 0;
    r.error = -EIO;
    g_assert_cmpint(space_rig_open_failing(&r, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "Cannot write the header of"));
    space_rig_end(&r);
}

/* Version 2 has no such fields: bytes there are extensions. */
static void test_version_2(void)
{
    struct space_rig r;

    if (!begin(&r, "compat=0.10"))
        return;
    space_rig_keep(&r);
    space_rig_must_open(&r);
    g_assert_cmpint(live_header_set_corrupt(&r.image), ==, 0);
    g_assert_cmpint(live_damaged(&r.image, "'x': %s", "is broken"), ==, -EIO);
    g_assert_cmpuint(r.changes, ==, 0);
    assert_changed(&r, 0, 0);
    g_assert_cmpint(r.image.broken, ==, -EIO);
    g_assert_cmpstr(r.told->str, ==,
                    "'x': is broken. The image is damaged, and is written no more\n");
    space_rig_end(&r);
}

static void test_changed_meanwhile(void)
{
    struct q2_error err = {0};
    struct space_rig r;

    if (!begin(&r, "compat=1.1"))
        return;
    space_rig_must_open(&r);
    live_reserve_clear(&r.image);
    live_header_end(&r.image);
    qcow2_rig_put(&r.files, "i.qcow2", 24, 8, 32 << 20);
    g_assert_cmpint(live_header_begin(&r.image, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "was changed by somebody else while it was opened"));
    g_assert_cmpuint(r.changes, ==, 0);
    space_rig_end(&r);
}

/* ---- damage ---- */

static void test_damaged(void)
{
    struct space_rig r;

    if (!begin(&r, "compat=1.1"))
        return;
    space_rig_keep(&r);
    space_rig_must_open(&r);
    g_assert_cmpint(live_damaged(&r.image, "'%s': a table is gone", "x"), ==, -EIO);
    g_assert_cmpint(live_damaged(&r.image, "'%s': another one is gone", "x"), ==, -EIO);
    g_assert_cmpint(r.image.broken, ==, -EIO);
    g_assert_cmpuint(r.changes, ==, 1);
    assert_changed(&r, 72, 80);
    g_assert_cmpuint(get(&r, 72, 8), ==, Q2_INCOMPATIBLE_CORRUPT);
    g_assert_cmpstr(r.told->str, ==,
                    "'x': a table is gone. The image is damaged, and is written no more\n");
    space_rig_end(&r);
}

static void test_cannot_mark(void)
{
    struct space_rig r;

    if (!begin(&r, "compat=1.1"))
        return;
    space_rig_must_open(&r);
    r.fail_at = 0;
    r.error = -EIO;
    r.image.broken = -ENOSPC;
    g_assert_cmpint(live_damaged(&r.image, "'x': a table is gone"), ==, -EIO);
    g_assert_cmpint(r.image.broken, ==, -ENOSPC);
    g_assert_nonnull(strstr(r.told->str, "could not be marked as corrupt: Input/output error"));
    space_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/header/fields", test_fields);
    g_test_add_func("/header/failure", test_failure);
    g_test_add_func("/header/autoclear", test_autoclear);
    g_test_add_func("/header/version-2", test_version_2);
    g_test_add_func("/header/changed-meanwhile", test_changed_meanwhile);
    g_test_add_func("/header/damaged", test_damaged);
    g_test_add_func("/header/cannot-mark", test_cannot_mark);
    return g_test_run();
}
