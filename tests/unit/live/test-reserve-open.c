/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding the metadata of an image and where its used part ends: what cannot be right is refused with a
 * sentence, before anything is written. */
#include "tests/rigs/space-rig.h"

#include <string.h>
#include <unistd.h>

#define CLUSTER 65536

/* Places of an image that `qemu-img create` made, with one L2 table. */
struct made {
    struct space_rig rig;
    uint64_t table, block, l1, l2;
};

static uint64_t get(const struct made *m, uint64_t at)
{
    return qcow2_rig_get(&m->rig.files, "i.qcow2", at, 8);
}

static void put(const struct made *m, uint64_t at, unsigned width, uint64_t value)
{
    qcow2_rig_put(&m->rig.files, "i.qcow2", at, width, value);
}

static bool begin(struct made *m)
{
    if (!space_rig_begin(&m->rig))
        return false;
    qcow2_rig_run(&m->rig.files, "qemu-img create -q -f qcow2 i.qcow2 1G && "
                                 "qemu-io -f qcow2 -c 'write -q 0 64k' i.qcow2");
    m->table = get(m, 48);
    m->block = get(m, m->table);
    m->l1 = get(m, 40);
    m->l2 = get(m, m->l1) & Q2_ENTRY_OFFSET;
    return true;
}

static void assert_refused(struct made *m, const char *text)
{
    g_autofree char *start =
        g_strdup_printf("Cannot open '%s/i.qcow2' for writing: ", m->rig.files.folder);
    struct q2_error err = {0};
    g_autofree uint8_t *before = NULL, *after = NULL;
    size_t size, now;

    before = qcow2_rig_bytes(&m->rig.files, "i.qcow2", &size);
    g_assert_cmpint(space_rig_open(&m->rig, &err), ==, -1);
    after = qcow2_rig_bytes(&m->rig.files, "i.qcow2", &now);
    g_assert_cmpmem(before, size, after, now);
    g_assert_true(g_str_has_prefix(err.text, start));
    g_assert_nonnull(strstr(err.text, text));
    g_assert_nonnull(strstr(err.text, "qemu-img check"));
}

/* ---- pointers that lead where they must not ---- */

static void refuse_entry(const char *of, uint64_t at, uint64_t value, const char *text)
{
    struct made m;
    uint64_t place;

    if (!begin(&m))
        return;
    place = strcmp(of, "table") == 0 ? m.table : m.l1;
    if (value < 8) /* one of the places */
        value = (uint64_t[]){0, m.table, m.block, m.l1, m.l2}[value];
    put(&m, place + at * 8, 8, of[0] == 'l' ? value | Q2_ENTRY_COPIED : value);
    assert_refused(&m, text);
    space_rig_end(&m.rig);
}

static void test_table(void)
{
    refuse_entry("table", 1, 1, "block 1 of reference counts");
    refuse_entry("table", 1, 2, "where other tables are");
    refuse_entry("table", 1, 3, "where other tables are");
    refuse_entry("table", 1, 4, "where other tables are");
    refuse_entry("table", 0, 1, "where other tables are");
    refuse_entry("table", 8191, UINT64_C(1) << 62, "block 8191 of reference counts is at");
    refuse_entry("table", 1, UINT64_MAX, "where none can be");
    refuse_entry("table", 1, UINT64_C(1) << 40, "where none can be");
    refuse_entry("table", 1, 5 * CLUSTER + 512, "where none can be");
    refuse_entry("table", 1, 512, "where none can be");
    refuse_entry("table", 1, 9, "where none can be");
}

static void test_l1(void)
{
    refuse_entry("l1", 1, 1, "where other tables are");
    refuse_entry("l1", 1, 2, "where other tables are");
    refuse_entry("l1", 1, 3, "the L2 table for 536870912 of the disk is at");
    refuse_entry("l1", 1, 4, "where other tables are");
    refuse_entry("l1", 1, UINT64_C(1) << 40, "where none can be");
    refuse_entry("l1", 1, 5 * CLUSTER + 512, "where none can be");
}

static void test_shared_table(void)
{
    struct made m;

    if (!begin(&m))
        return;
    put(&m, m.l1, 8, m.l2);
    assert_refused(&m, "is shared");
    space_rig_end(&m.rig);
}

/* The last table is there in part: what is missing must not become zeroes. */
static void test_cut(void)
{
    struct made m;

    if (!begin(&m))
        return;
    qcow2_rig_run(&m.rig.files, "truncate -s 10M i.qcow2");
    put(&m, m.l1 + 8, 8, UINT64_C(10485760) | Q2_ENTRY_COPIED);
    qcow2_rig_run(&m.rig.files, "truncate -s 10489856 i.qcow2");
    assert_refused(&m, "where none can be");
    put(&m, m.l1 + 8, 8, 0);
    put(&m, m.table + 8, 8, 10485760);
    assert_refused(&m, "where none can be");
    space_rig_end(&m.rig);
}

/* ---- where the used part ends ---- */

static void assert_first(struct made *m, uint64_t cluster)
{
    uint64_t host;

    space_rig_must_open(&m->rig);
    g_assert_cmpint(space_rig_take(&m->rig, 1, &host), ==, 1);
    g_assert_cmpuint(host / m->rig.top.cluster, ==, cluster);
}

/* What is counted behind the end of the file is not taken, wherever in its block it is. */
static void test_counted_behind(void)
{
    static const uint64_t clusters[] = {8, 9, 255, 256, 1000, 4095, 9999};
    struct made m;

    if (!begin(&m))
        return;
    space_rig_keep(&m.rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(clusters); i++) {
        space_rig_reset(&m.rig);
        put(&m, m.block + clusters[i] * 2, 2, 3);
        assert_first(&m, clusters[i] + 1);
        g_assert_cmpint(live_reserve_return(&m.rig.image), ==, 0);
        space_rig_leaks(&m.rig, true);
    }
    space_rig_reset(&m.rig);
    put(&m, m.block + 30000 * 2, 2, 1);
    assert_refused(&m, "far behind the end of the file");
    space_rig_end(&m.rig);
}

/* The same with counts of less than a byte. */
static void test_counted_bits(gconstpointer opaque)
{
    unsigned bits = GPOINTER_TO_UINT(opaque);
    struct made m;

    if (!space_rig_begin(&m.rig))
        return;
    qcow2_rig_run(&m.rig.files,
                  "qemu-img create -q -f qcow2 -o cluster_size=4k,refcount_bits=%u i.qcow2 1M",
                  bits);
    m.block = get(&m, get(&m, 48));
    space_rig_keep(&m.rig);
    for (unsigned cluster = 40; cluster < 60; cluster++) {
        unsigned bit = cluster * bits;

        space_rig_reset(&m.rig);
        put(&m, m.block + bit / 8, 1, (2U << bit % 8) - 1);
        assert_first(&m, cluster + 1);
    }
    space_rig_end(&m.rig);
}

/* A file that ends inside of a cluster, and one that is longer than all that is counted. */
static void test_file_end(void)
{
    struct made m;

    if (!begin(&m))
        return;
    qcow2_rig_run(&m.rig.files, "truncate -s %d i.qcow2", 100 * CLUSTER + 1);
    assert_first(&m, 101);
    g_assert_cmpint(live_reserve_return(&m.rig.image), ==, 0);
    g_assert_cmpuint(space_rig_file_size(&m.rig), ==, 102 * CLUSTER);
    space_rig_close(&m.rig);
    qcow2_rig_run(&m.rig.files, "truncate -s %d i.qcow2", 200 * CLUSTER);
    assert_first(&m, 200);
    space_rig_end(&m.rig);
}

/* A million empty blocks would be read for minutes. */
static void test_empty_blocks(void)
{
    struct made m;

    if (!space_rig_begin(&m.rig))
        return;
    qcow2_rig_run(&m.rig.files, "qemu-img create -q -f qcow2 -o cluster_size=2M i.qcow2 1G && "
                                "truncate -s 400M i.qcow2");
    m.table = get(&m, 48);
    for (unsigned i = 0; i < 100; i++)
        put(&m, m.table + (100 + i) * 8, 8, (UINT64_C(20) + i) << 21);
    assert_refused(&m, "too many blocks of reference counts");
    for (unsigned i = 30; i < 100; i++)
        put(&m, m.table + (100 + i) * 8, 8, 0);
    assert_first(&m, 200);
    space_rig_end(&m.rig);
}

/* A large image is opened by looking at one block only. */
static void test_quick(void)
{
    struct made m;
    uint64_t size;

    if (!space_rig_begin(&m.rig))
        return;
    qcow2_rig_run(&m.rig.files,
                  "qemu-img create -q -f qcow2 -o preallocation=metadata i.qcow2 64G");
    size = space_rig_file_size(&m.rig);
    space_rig_must_open(&m.rig);
    g_assert_cmpuint(m.rig.read, <=, 3 * CLUSTER);
    assert_first(&m, (size - 1) / CLUSTER + 1);
    space_rig_end(&m.rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/open/table", test_table);
    g_test_add_func("/open/l1", test_l1);
    g_test_add_func("/open/shared-table", test_shared_table);
    g_test_add_func("/open/cut", test_cut);
    g_test_add_func("/open/counted-behind", test_counted_behind);
    g_test_add_data_func("/open/counted-1", GUINT_TO_POINTER(1), test_counted_bits);
    g_test_add_data_func("/open/counted-2", GUINT_TO_POINTER(2), test_counted_bits);
    g_test_add_data_func("/open/counted-4", GUINT_TO_POINTER(4), test_counted_bits);
    g_test_add_func("/open/file-end", test_file_end);
    g_test_add_func("/open/empty-blocks", test_empty_blocks);
    g_test_add_func("/open/quick", test_quick);
    return g_test_run();
}
