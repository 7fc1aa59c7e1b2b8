/* SPDX-License-Identifier: BSD-3-Clause */
/* What breaks a rule is not read, and says where; the rest of the disk is. */
#include "tests/rigs/qcow2-oracle.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER 65536
#define COPIED  (UINT64_C(1) << 63)

/* An image of 16 clusters of data. */
static bool begin(struct qcow2_rig *r, const char *options)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r,
                  "qemu-img create -q -f qcow2 %s i.qcow2 1M && "
                  "qemu-io -f qcow2 -c 'write -q -P 5 0 1M' i.qcow2",
                  options);
    return true;
}

/* Change the entry of cluster 3; it cannot be read any more, and its neighbours can. */
static void assert_entry_refused(const struct qcow2_rig *r, uint64_t entry, const char *text)
{
    uint64_t at = qcow2_rig_l2(r, "i.qcow2", 3), before = qcow2_rig_get(r, "i.qcow2", at, 8);
    g_autofree uint8_t *fives = g_malloc(3 * CLUSTER);
    struct q2_reader *reader;
    struct q2_image *image;

    qcow2_rig_put(r, "i.qcow2", at, 8, entry);
    qcow2_assert_unreadable(r, "i.qcow2", 3 * CLUSTER, 1, text);
    qcow2_assert_unreadable(r, "i.qcow2", 0, 16 * CLUSTER, text);
    image = qcow2_open(r, "i.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_pread(reader, fives, 3 * CLUSTER, 0, NULL), ==, 0);
    g_assert_cmpint(q2_image_pread(reader, fives, 3 * CLUSTER, 4 * CLUSTER, NULL), ==, 0);
    for (unsigned i = 0; i < 3 * CLUSTER; i++)
        g_assert_cmpint(fives[i], ==, 5);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_put(r, "i.qcow2", at, 8, before);
}

static void test_entries(void)
{
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    assert_entry_refused(&r, COPIED | (5 * CLUSTER + 512), "breaks the rules");
    assert_entry_refused(&r, 5 * CLUSTER + 4096 + 1, "breaks the rules");
    assert_entry_refused(&r, COPIED | (UINT64_C(1) << 55), "behind the end of the file");
    assert_entry_refused(&r, COPIED | (UINT64_C(1) << 40), "behind the end of the file");
    /* Compressed: behind the end; and what is no compressed data. */
    assert_entry_refused(&r, (UINT64_C(1) << 62) | (UINT64_C(1) << 40), "behind the end");
    assert_entry_refused(&r, (UINT64_C(1) << 62) | (5 * CLUSTER), "damaged");
    assert_entry_refused(&r, UINT64_MAX, "behind the end");
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

static void test_version_2(void)
{
    struct qcow2_rig r;

    if (!begin(&r, "-o compat=0.10"))
        return;
    assert_entry_refused(&r, 1, "breaks the rules");
    assert_entry_refused(&r, COPIED | (5 * CLUSTER + 1), "breaks the rules");
    qcow2_rig_end(&r);
}

static void test_subclusters(void)
{
    struct qcow2_rig r;
    uint64_t at;

    if (!begin(&r, "-o extended_l2=on"))
        return;
    at = qcow2_rig_l2(&r, "i.qcow2", 3);
    assert_entry_refused(&r, 0, "breaks the rules"); /* data, and no place */
    qcow2_rig_put(&r, "i.qcow2", at + 8, 8, UINT64_C(0x00000001ffffffff));
    qcow2_assert_unreadable(&r, "i.qcow2", 3 * CLUSTER, 1, "breaks the rules");
    qcow2_assert_unreadable(&r, "i.qcow2", 4 * CLUSTER - 1, 1, "breaks the rules");
    qcow2_rig_end(&r);
}

static void test_data_file(void)
{
    struct qcow2_rig r;

    if (!begin(&r, "-o data_file=data.raw"))
        return;
    assert_entry_refused(&r, (UINT64_C(1) << 62) | (3 * CLUSTER), "breaks the rules");
    qcow2_rig_run(&r, "truncate -s 200000 data.raw");
    qcow2_assert_unreadable(&r, "i.qcow2", 4 * CLUSTER, 1, "behind the end");
    qcow2_rig_end(&r);
}

static void test_l1(void)
{
    static const struct {
        uint64_t entry;
        const char *text;
    } broken[] = {
        {COPIED | (4 * CLUSTER + 512), "L1 table breaks the rules"},
        {COPIED | (UINT64_C(1) << 40), "L2 table lies behind the end"},
        {COPIED | (UINT64_C(0xff) << 48), "L2 table lies behind the end"},
    };
    struct qcow2_rig r;
    uint64_t at;

    if (!begin(&r, ""))
        return;
    at = qcow2_rig_get(&r, "i.qcow2", 40, 8);
    for (unsigned i = 0; i < G_N_ELEMENTS(broken); i++) {
        qcow2_rig_put(&r, "i.qcow2", at, 8, broken[i].entry);
        qcow2_assert_unreadable(&r, "i.qcow2", 0, 1, broken[i].text);
    }
    qcow2_rig_end(&r);
}

/* A file that was cut does not read as zeroes, wherever; and one that is cut while it is open does not,
 * either. */
static void test_cut(void)
{
    g_autofree uint8_t *bytes = g_malloc(1 << 20);
    g_autofree char *path = NULL;
    struct q2_reader *reader;
    struct q2_image *image;
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    path = qcow2_rig_path(&r, "i.qcow2");
    image = qcow2_open(&r, "i.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_pread(reader, bytes, 1 << 20, 0, NULL), ==, 0);
    g_assert_cmpint(truncate(path, 10 * CLUSTER), ==, 0);
    g_assert_cmpint(q2_image_pread(reader, bytes, 1 << 20, 0, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "Cannot read"));
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_assert_unreadable(&r, "i.qcow2", 6 * CLUSTER, CLUSTER, "behind the end of the file");
    /* In the middle of the L2 table. */
    g_assert_cmpint(truncate(path, 4 * CLUSTER + 4096), ==, 0);
    qcow2_assert_unreadable(&r, "i.qcow2", 0, 1, "L2 table lies behind the end");
    g_assert_cmpint(truncate(path, 3 * CLUSTER), ==, 0);
    qcow2_assert_refused(&r, "i.qcow2", Q2_REFERENCES_FOLDER, "L1 table lies behind the end");
    qcow2_rig_end(&r);
}

/* The last cluster of a file may be there in part: the rest is zeroes, as for QEMU. */
static void test_last_cluster(void)
{
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "truncate -s $(($(stat -c %%s i.qcow2) - 5000)) i.qcow2");
    qcow2_assert_same(&r, "i.qcow2");
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

/* Compressed data that are cut short, or have a wrong byte at each of some places, are told, or are
 * the same: they are never something else than QEMU reads, and never too long. */
static void test_compressed(void)
{
    static const char *const types[] = {"zlib", "zstd"};
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned t = 0; t < G_N_ELEMENTS(types); t++) {
        uint64_t entry, place, length, at;

        qcow2_rig_run(&r,
                      "seq 1 30000 | head -c 131072 > c.raw && qemu-img convert -c -f raw -O qcow2 "
                      "-o compression_type=%s c.raw i.qcow2",
                      types[t]);
        at = qcow2_rig_l2(&r, "i.qcow2", 0);
        entry = qcow2_rig_get(&r, "i.qcow2", at, 8);
        place = entry & ((UINT64_C(1) << 54) - 1);
        length = ((entry >> 54 & 0xff) + 1) * 512 - place % 512;
        g_assert_cmpuint(length, >, 2048);
        /* Fewer sectors than there are. */
        qcow2_rig_put(&r, "i.qcow2", at, 8, entry - (UINT64_C(3) << 54));
        qcow2_assert_unreadable(&r, "i.qcow2", 0, 1, "the compressed data");
        qcow2_rig_put(&r, "i.qcow2", at, 8, entry);
        /* Nothing but ones, from the middle on. */
        for (uint64_t i = place + length / 2; i < place + length - 520; i += 8)
            qcow2_rig_put(&r, "i.qcow2", i, 8, UINT64_MAX);
        qcow2_assert_unreadable(&r, "i.qcow2", 0, CLUSTER, "the compressed data");
        qcow2_assert_unreadable(&r, "i.qcow2", 100, 10, "the compressed data");
    }
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/damage/entries", test_entries);
    g_test_add_func("/damage/version-2", test_version_2);
    g_test_add_func("/damage/subclusters", test_subclusters);
    g_test_add_func("/damage/data-file", test_data_file);
    g_test_add_func("/damage/l1", test_l1);
    g_test_add_func("/damage/cut", test_cut);
    g_test_add_func("/damage/last-cluster", test_last_cluster);
    g_test_add_func("/damage/compressed", test_compressed);
    return g_test_run();
}
