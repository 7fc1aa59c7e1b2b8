/* SPDX-License-Identifier: BSD-3-Clause */
/* q2_image_check against `qemu-img check`, on images that are broken on purpose. (Those of test-image
 * are clean.) */
#include "tests/rigs/qcow2-oracle.h"

#include <string.h>

#define CLUSTER 65536
#define COPIED  (UINT64_C(1) << 63)
#define OFFSET  UINT64_C(0x00fffffffffffe00)

/* Header, table and block of counts, L1, L2, 16 clusters of data: 21 clusters. */
static bool begin(struct qcow2_rig *r, const char *options)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r,
                  "qemu-img create -q -f qcow2 %s i.qcow2 1M && "
                  "qemu-io -f qcow2 -c 'write -q -P 5 0 1M' i.qcow2 && cp i.qcow2 good",
                  options);
    qcow2_assert_clean(r, "i.qcow2");
    return true;
}

/* Put a value into the file, check, and put the file back. */
static void assert_found(const struct qcow2_rig *r, uint64_t offset, unsigned width, uint64_t value,
                         uint64_t leaks, uint64_t corruptions, const char *text)
{
    qcow2_rig_put(r, "i.qcow2", offset, width, value);
    qcow2_assert_broken(r, "i.qcow2", leaks, corruptions, text);
    qcow2_rig_run(r, "cp good i.qcow2");
}

/* Where the count of a cluster is, of 2^order bits (at least 8). */
static uint64_t count_place(const struct qcow2_rig *r, uint64_t cluster, unsigned order)
{
    uint64_t table = qcow2_rig_get(r, "i.qcow2", 48, 8);

    return (qcow2_rig_get(r, "i.qcow2", table, 8) & ~UINT64_C(511)) + (cluster << order) / 8;
}

static void test_counts(void)
{
    static const unsigned widths[] = {8, 16, 32, 64};
    struct qcow2_rig r;

    for (unsigned i = 0; i < G_N_ELEMENTS(widths); i++) {
        g_autofree char *options = g_strdup_printf("-o refcount_bits=%u", widths[i]);
        unsigned bytes = widths[i] / 8, order = 3 + i;
        uint64_t data;

        if (!begin(&r, options))
            return;
        data = (qcow2_rig_get(&r, "i.qcow2", qcow2_rig_l2(&r, "i.qcow2", 4), 8) & OFFSET) / CLUSTER;
        /* Counted, and not used: a cluster more at the end of the file. */
        qcow2_rig_run(&r, "truncate -s +%u i.qcow2", CLUSTER);
        qcow2_rig_put(&r, "i.qcow2", count_place(&r, 21, order), bytes, 1);
        qcow2_assert_broken(&r, "i.qcow2", 1, 0, "");
        qcow2_rig_run(&r, "cp good i.qcow2");
        /* Twice, and not at all; the flag COPIED is wrong, too. */
        assert_found(&r, count_place(&r, data, order), bytes, 2, 1, 1, "COPIED");
        assert_found(&r, count_place(&r, data, order), bytes, 0, 0, 2, "COPIED");
        /* The header's cluster. */
        assert_found(&r, count_place(&r, 0, order), bytes, 0, 0, 1, "used 1 times, and counted 0");
        qcow2_rig_end(&r);
    }
}

/* Counts of 1, 2 and 4 bits: the lowest bits are first. */
static void test_small_counts(void)
{
    static const unsigned widths[] = {1, 2, 4};
    struct qcow2_rig r;

    for (unsigned i = 0; i < G_N_ELEMENTS(widths); i++) {
        g_autofree char *options = g_strdup_printf("-o refcount_bits=%u", widths[i]);
        uint64_t place, byte;

        if (!begin(&r, options))
            return;
        qcow2_rig_run(&r, "truncate -s %u i.qcow2", 40 * CLUSTER);
        place = count_place(&r, 32, i);
        byte = qcow2_rig_get(&r, "i.qcow2", place, 1);
        g_assert_cmpuint(byte, ==, 0);
        /* Clusters 32 and 33. */
        qcow2_rig_put(&r, "i.qcow2", place, 1, 1 | 1 << widths[i]);
        qcow2_assert_broken(&r, "i.qcow2", 2, 0, "");
        qcow2_rig_run(&r, "cp good i.qcow2");
        place = count_place(&r, 8, i);
        byte = qcow2_rig_get(&r, "i.qcow2", place, 1);
        g_assert_cmpuint(byte & 1, ==, 1);
        assert_found(&r, place, 1, byte & ~UINT64_C(1), 0, 2, "COPIED");
        qcow2_rig_end(&r);
    }
}

static void test_entries(void)
{
    struct qcow2_rig r;
    uint64_t at, entry, other;

    if (!begin(&r, ""))
        return;
    at = qcow2_rig_l2(&r, "i.qcow2", 3);
    entry = qcow2_rig_get(&r, "i.qcow2", at, 8);
    other = qcow2_rig_get(&r, "i.qcow2", at + 8, 8);
    assert_found(&r, at, 8, 0, 1, 0, "");
    assert_found(&r, at, 8, entry & ~COPIED, 0, 1, "COPIED of the L2 entry");
    assert_found(&r, at, 8, other, 1, 1, "used 2 times, and counted 1");
    assert_found(&r, at, 8, COPIED | UINT64_C(1) << 40, 1, 2, "behind the end of the file");
    assert_found(&r, at, 8, entry | 2, 0, 1, "reserved bits");
    assert_found(&r, at, 8, entry + 512, 1, 1, "breaks the rules");
    /* Zeroes with a place are used as data are. */
    assert_found(&r, at, 8, entry | 1, 0, 0, "");
    qcow2_rig_end(&r);
}

static void test_tables(void)
{
    struct qcow2_rig r;
    uint64_t l1, entry, counts;

    if (!begin(&r, ""))
        return;
    l1 = qcow2_rig_get(&r, "i.qcow2", 40, 8);
    entry = qcow2_rig_get(&r, "i.qcow2", l1, 8);
    counts = qcow2_rig_get(&r, "i.qcow2", 48, 8);
    assert_found(&r, l1, 8, 0, 17, 0, "");
    assert_found(&r, l1, 8, entry & ~COPIED, 0, 1, "COPIED of the L1 entry");
    assert_found(&r, l1, 8, entry | 2, 0, 1, "L1 entry for 0 of the disk has reserved bits");
    assert_found(&r, counts + 8, 8, 512, 0, 1, "block 1 of reference counts");
    assert_found(&r, counts + 8, 8, UINT64_C(1) << 40, 0, 1, "block 1 of reference counts");
    qcow2_rig_end(&r);
}

static void test_compressed(void)
{
    struct qcow2_rig r;
    uint64_t at, entry;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "seq 1 200000 | head -c 1048576 > c.raw && "
                      "qemu-img convert -c -f raw -O qcow2 c.raw i.qcow2 && cp i.qcow2 good");
    qcow2_assert_clean(&r, "i.qcow2");
    at = qcow2_rig_l2(&r, "i.qcow2", 0);
    entry = qcow2_rig_get(&r, "i.qcow2", at, 8);
    assert_found(&r, at, 8, 0, 1, 0, "");
    assert_found(&r, at, 8, entry | COPIED, 0, 1, "reserved bits");
    qcow2_rig_end(&r);
}

/* By q2_image_check alone: qemu-img takes tables of snapshots that say nothing for a corruption. */
static uint64_t count_leaks(const struct qcow2_rig *r)
{
    struct q2_image *image = qcow2_open(r, "i.qcow2", Q2_REFERENCES_NONE);
    uint64_t leaks, corruptions;
    struct q2_error err;

    g_assert_cmpint(q2_image_check(image, &leaks, &corruptions, &err), ==, 0);
    q2_image_close(image);
    return leaks;
}

/* Snapshots and bitmaps use clusters, too: a table of each is lost. */
static void test_extras(void)
{
    struct qcow2_rig r;
    uint64_t snapshots, directory, table, at = 112;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "qemu-img snapshot -c s i.qcow2 && qemu-img bitmap --add i.qcow2 b && "
                      "cp i.qcow2 good");
    qcow2_rig_fill(&r, "i.qcow2", 1 << 20, 5);
    qcow2_rig_run(&r, "cp i.qcow2 good");
    qcow2_assert_clean(&r, "i.qcow2");
    snapshots = qcow2_rig_get(&r, "i.qcow2", 64, 8);
    table = qcow2_rig_get(&r, "i.qcow2", snapshots, 8);
    qcow2_rig_put(&r, "i.qcow2", table, 8, 0);
    g_assert_cmpuint(count_leaks(&r), ==, 17);
    qcow2_rig_run(&r, "cp good i.qcow2");
    while (qcow2_rig_get(&r, "i.qcow2", at, 4) != 0x23852875)
        at += 8 + ((qcow2_rig_get(&r, "i.qcow2", at + 4, 4) + 7) & ~UINT64_C(7));
    directory = qcow2_rig_get(&r, "i.qcow2", at + 24, 8);
    table = qcow2_rig_get(&r, "i.qcow2", directory, 8);
    assert_found(&r, table, 8, UINT64_C(1) << 40, 1, 1, "table of a bitmap is damaged");
    qcow2_rig_end(&r);
}

/* Only the file itself is checked, and not what it names. */
static void test_alone(void)
{
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "mv good base && qemu-img create -q -f qcow2 -b base -F qcow2 i.qcow2");
    qcow2_rig_put(&r, "base", qcow2_rig_get(&r, "base", 40, 8), 8, 0);
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

/* Lies about sizes take neither memory nor time. */
static void test_lies(void)
{
    uint64_t leaks, corruptions;
    struct q2_image *image;
    struct qcow2_rig r;
    struct q2_error err;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "truncate -s 100G i.qcow2");
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_put(&r, "i.qcow2", 36, 4, 4 << 20);
    qcow2_rig_put(&r, "i.qcow2", 56, 4, 128);
    image = qcow2_open(&r, "i.qcow2", Q2_REFERENCES_NONE);
    g_assert_cmpint(q2_image_check(image, &leaks, &corruptions, &err), ==, 0);
    g_assert_cmpuint(corruptions, >, 0);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/check/counts", test_counts);
    g_test_add_func("/check/small-counts", test_small_counts);
    g_test_add_func("/check/entries", test_entries);
    g_test_add_func("/check/tables", test_tables);
    g_test_add_func("/check/compressed", test_compressed);
    g_test_add_func("/check/extras", test_extras);
    g_test_add_func("/check/alone", test_alone);
    g_test_add_func("/check/lies", test_lies);
    return g_test_run();
}
