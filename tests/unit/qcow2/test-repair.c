/* SPDX-License-Identifier: BSD-3-Clause */
/* q2_image_repair on images that are broken on purpose: `qemu-img check` has nothing to say
 * afterwards, and the disk is what it was; what cannot be repaired is as it was, byte by byte. */
#include "common/qcow2/q2-repair.h"
#include "tests/rigs/qcow2-oracle.h"

#include <string.h>

#define CLUSTER 65536
#define COPIED  (UINT64_C(1) << 63)
#define OFFSET  UINT64_C(0x00fffffffffffe00)
#define SOME    UINT64_MAX /* corruptions: at least one */

/* Make an image of 1 MiB, all of it written, and keep it as "good". */
static bool begin(struct qcow2_rig *r, const char *options)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r,
                  "qemu-img create -q -f qcow2 %s i.qcow2 1M && "
                  "qemu-io -f qcow2 -c 'write -q -P 5 0 1M' i.qcow2 && cp i.qcow2 good",
                  options);
    return true;
}

static int repair(const struct qcow2_rig *r, enum q2_repair_what what, struct q2_repaired *done,
                  struct q2_error *err)
{
    struct q2_open_options o = {
        .references = Q2_REFERENCES_ANY, .alone = true, .writable = true, .locking = true};
    g_autofree char *path = qcow2_rig_path(r, "i.qcow2");
    struct q2_image *image = q2_image_open_with(path, &o, err);
    int result;

    if (!image)
        g_error("%s", err->text);
    result = q2_image_repair(image, what, done, err);
    q2_image_close(image);
    return result;
}

/* It is repaired, and is what "good" was. */
static void assert_repaired(const struct qcow2_rig *r, enum q2_repair_what what, uint64_t leaks,
                            uint64_t corruptions)
{
    struct q2_repaired done;
    struct q2_error err;

    if (repair(r, what, &done, &err) < 0)
        g_error("not repaired: %s", err.text);
    g_assert_cmpuint(done.leaks, ==, leaks);
    if (corruptions == SOME)
        g_assert_cmpuint(done.corruptions, >, 0);
    else
        g_assert_cmpuint(done.corruptions, ==, corruptions);
    g_assert_cmpint(done.first.text[0] != 0, ==, corruptions > 0);
    qcow2_assert_clean(r, "i.qcow2");
    qcow2_rig_run(r, "qemu-img compare -q -f qcow2 -F qcow2 good i.qcow2");
    /* The counts are what a writer goes by: nothing is overwritten. */
    qcow2_rig_run(r, "cp i.qcow2 j.qcow2 && cp good better && "
                     "for i in j.qcow2 better; do qemu-io -f qcow2 -c 'write -q -P 9 300k 200k' "
                     "-c 'discard -q 0 128k' -c 'write -q -P 8 64k 64k' $i; done && "
                     "qemu-img compare -q -f qcow2 -F qcow2 better j.qcow2");
    qcow2_assert_clean(r, "j.qcow2");
    qcow2_rig_run(r, "cp good i.qcow2");
}

/* It is refused, for this reason, and is as it was. */
static void assert_refused(const struct qcow2_rig *r, enum q2_repair_what what, const char *text)
{
    struct q2_repaired done;
    struct q2_error err = {0};

    qcow2_rig_run(r, "cp i.qcow2 before");
    if (repair(r, what, &done, &err) == 0)
        g_error("it is repaired, in spite of '%s'", text);
    if (!strstr(err.text, text))
        g_error("not '%s', but '%s'", text, err.text);
    g_assert_false(done.changed);
    qcow2_rig_run(r, "cmp before i.qcow2 && cp good i.qcow2");
}

/* Where the count of a cluster is, of 2^order bits (at least 8). */
static uint64_t count_place(const struct qcow2_rig *r, uint64_t cluster, unsigned order)
{
    uint64_t table = qcow2_rig_get(r, "i.qcow2", 48, 8);

    return (qcow2_rig_get(r, "i.qcow2", table, 8) & ~UINT64_C(511)) + (cluster << order) / 8;
}

static uint64_t data_cluster(const struct qcow2_rig *r, unsigned n)
{
    return (qcow2_rig_get(r, "i.qcow2", qcow2_rig_l2(r, "i.qcow2", n), 8) & OFFSET) / CLUSTER;
}

/* ---- counts ---- */

static void test_clean(void)
{
    struct q2_repaired done;
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    for (unsigned what = Q2_REPAIR_LEAKS; what <= Q2_REPAIR_ALL; what++) {
        g_assert_cmpint(repair(&r, what, &done, &err), ==, 0);
        g_assert_false(done.changed);
        qcow2_rig_run(&r, "cmp good i.qcow2");
    }
    qcow2_rig_end(&r);
}

static void test_counts(void)
{
    struct qcow2_rig r;

    for (unsigned order = 3; order <= 6; order++) {
        g_autofree char *options = g_strdup_printf("-o refcount_bits=%u", 1U << order);
        unsigned bytes = 1 << (order - 3);
        uint64_t data;

        if (!begin(&r, options))
            return;
        data = data_cluster(&r, 4);
        /* A leak behind all, and one of a cluster that is used. */
        for (unsigned what = Q2_REPAIR_LEAKS; what <= Q2_REPAIR_ALL; what++) {
            qcow2_rig_run(&r, "truncate -s +%u i.qcow2", CLUSTER);
            qcow2_rig_put(&r, "i.qcow2", count_place(&r, 21, order), bytes, 1);
            assert_repaired(&r, what, 1, 0);
            qcow2_rig_put(&r, "i.qcow2", count_place(&r, data, order), bytes, 3);
            qcow2_rig_put(&r, "i.qcow2", qcow2_rig_l2(&r, "i.qcow2", 4), 8, data * CLUSTER);
            assert_repaired(&r, what, 1, 0);
        }
        /* Not counted at all: data, the header, the counts themselves, tables. */
        for (unsigned i = 0; i < 21; i++) {
            qcow2_rig_put(&r, "i.qcow2", count_place(&r, i, order), bytes, 0);
            assert_repaired(&r, Q2_REPAIR_ALL, 0, i <= 3 ? 1 : 2);
        }
        /* Both. */
        qcow2_rig_put(&r, "i.qcow2", count_place(&r, data, order), bytes, 2);
        qcow2_rig_put(&r, "i.qcow2", count_place(&r, 1, order), bytes, 0);
        assert_repaired(&r, Q2_REPAIR_ALL, 1, 2);
        qcow2_rig_end(&r);
    }
}

/* The table of counts and its blocks: nothing in them is needed. */
static void test_structures(void)
{
    struct qcow2_rig r;
    uint64_t table, block;

    if (!begin(&r, ""))
        return;
    table = qcow2_rig_get(&r, "i.qcow2", 48, 8);
    block = qcow2_rig_get(&r, "i.qcow2", table, 8);
    qcow2_rig_put(&r, "i.qcow2", table, 8, 0);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, SOME);
    qcow2_rig_put(&r, "i.qcow2", table, 8, UINT64_C(1) << 40);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, SOME);
    qcow2_rig_put(&r, "i.qcow2", table + 8, 8, 512);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, 1);
    qcow2_rig_put(&r, "i.qcow2", table + 8, 8, block | 1);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, 2);
    /* Where data is, which the block would write over. (It is all 5: nearly everything leaks.) */
    qcow2_rig_put(&r, "i.qcow2", table, 8, data_cluster(&r, 3) * CLUSTER);
    assert_repaired(&r, Q2_REPAIR_ALL, 20 + 1, SOME);
    qcow2_rig_put(&r, "i.qcow2", 48, 8, data_cluster(&r, 3) * CLUSTER);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, SOME);
    qcow2_rig_end(&r);
}

static void test_flags(void)
{
    struct qcow2_rig r;
    uint64_t l1, at;

    if (!begin(&r, ""))
        return;
    l1 = qcow2_rig_get(&r, "i.qcow2", 40, 8);
    at = qcow2_rig_l2(&r, "i.qcow2", 7);
    qcow2_rig_put(&r, "i.qcow2", at, 8, data_cluster(&r, 7) * CLUSTER);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, 1);
    qcow2_rig_put(&r, "i.qcow2", l1, 8, qcow2_rig_get(&r, "i.qcow2", l1, 8) & ~COPIED);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, 1);
    qcow2_rig_put(&r, "i.qcow2", at, 8, data_cluster(&r, 7) * CLUSTER);
    assert_refused(&r, Q2_REPAIR_LEAKS, "while something else is wrong");
    qcow2_rig_end(&r);
}

/* Shared with a snapshot: a flag there would let the snapshot be written over. */
static void test_snapshots(void)
{
    struct qcow2_rig r;
    uint64_t at;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "qemu-img snapshot -c s i.qcow2 && "
                      "qemu-io -f qcow2 -c 'write -q -P 6 0 64k' i.qcow2 && cp i.qcow2 good");
    at = qcow2_rig_l2(&r, "i.qcow2", 7);
    qcow2_rig_put(&r, "i.qcow2", at, 8, qcow2_rig_get(&r, "i.qcow2", at, 8) | COPIED);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, 1);
    qcow2_rig_put(&r, "i.qcow2", count_place(&r, data_cluster(&r, 7), 4), 2, 1);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, 2);
    qcow2_rig_put(&r, "i.qcow2", qcow2_rig_get(&r, "i.qcow2", 48, 8), 8, 0);
    assert_repaired(&r, Q2_REPAIR_ALL, 0, SOME);
    qcow2_rig_end(&r);
}

/* ---- the header's bits ---- */

static void test_bits(void)
{
    struct q2_repaired done;
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r, "-o lazy_refcounts=on"))
        return;
    /* A QEMU that died: nothing that it wrote is counted. */
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 -o lazy_refcounts=on i.qcow2 1M && "
                      "qemu-io -f qcow2 -c 'write -q -P 5 0 1M' -c flush -c abort i.qcow2 || true");
    g_assert_cmphex(qcow2_rig_get(&r, "i.qcow2", 72, 8), ==, 1);
    g_assert_cmpint(repair(&r, Q2_REPAIR_ALL, &done, &err), ==, 0);
    g_assert_cmpuint(done.corruptions, >, 0);
    g_assert_cmphex(qcow2_rig_get(&r, "i.qcow2", 72, 8), ==, 0);
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_run(&r, "qemu-img compare -q -f qcow2 -F qcow2 good i.qcow2 && cp good i.qcow2");
    /* Dirty and corrupt, with nothing wrong. */
    qcow2_rig_put(&r, "i.qcow2", 72, 8, 3);
    g_assert_cmpint(repair(&r, Q2_REPAIR_LEAKS, &done, &err), ==, 0);
    g_assert_cmphex(qcow2_rig_get(&r, "i.qcow2", 72, 8), ==, 3);
    g_assert_cmpint(repair(&r, Q2_REPAIR_ALL, &done, &err), ==, 0);
    g_assert_cmphex(qcow2_rig_get(&r, "i.qcow2", 72, 8), ==, 0);
    qcow2_rig_run(&r, "cmp good i.qcow2");
    /* What somebody else knows about the clusters may be wrong now. */
    qcow2_rig_put(&r, "i.qcow2", 88, 8, UINT64_C(1) << 40 | 1);
    qcow2_rig_put(&r, "i.qcow2", count_place(&r, 0, 4), 2, 0);
    g_assert_cmpint(repair(&r, Q2_REPAIR_ALL, &done, &err), ==, 0);
    g_assert_cmphex(qcow2_rig_get(&r, "i.qcow2", 88, 8), ==, 1);
    qcow2_rig_end(&r);
}

/* ---- what is refused ---- */

static void test_refused(void)
{
    struct qcow2_rig r;
    uint64_t at, l1, block;

    if (!begin(&r, ""))
        return;
    at = qcow2_rig_l2(&r, "i.qcow2", 3);
    l1 = qcow2_rig_get(&r, "i.qcow2", 40, 8);
    block = qcow2_rig_get(&r, "i.qcow2", qcow2_rig_get(&r, "i.qcow2", 48, 8), 8);
    for (unsigned what = Q2_REPAIR_LEAKS; what <= Q2_REPAIR_ALL; what++) {
        qcow2_rig_put(&r, "i.qcow2", at, 8, qcow2_rig_get(&r, "i.qcow2", at + 8, 8));
        assert_refused(&r, what, what == Q2_REPAIR_ALL ? "where something else is" : "");
        /* Counted as often as it is used: no check says a word. */
        qcow2_rig_put(&r, "i.qcow2", at, 8, data_cluster(&r, 4) * CLUSTER);
        qcow2_rig_put(&r, "i.qcow2", at + 8, 8, data_cluster(&r, 4) * CLUSTER);
        qcow2_rig_put(&r, "i.qcow2", count_place(&r, data_cluster(&r, 4), 4), 2, 2);
        assert_refused(&r, what, "where something else is");
        qcow2_rig_put(&r, "i.qcow2", at, 8, COPIED | UINT64_C(1) << 40);
        assert_refused(&r, what, "behind the end of the file");
        qcow2_rig_put(&r, "i.qcow2", at, 8, qcow2_rig_get(&r, "i.qcow2", at, 8) | 2);
        assert_refused(&r, what, "reserved bits");
        qcow2_rig_put(&r, "i.qcow2", at, 8, qcow2_rig_get(&r, "i.qcow2", at, 8) + 512);
        assert_refused(&r, what, "breaks the rules");
        qcow2_rig_put(&r, "i.qcow2", l1, 8, COPIED | UINT64_C(1) << 40);
        assert_refused(&r, what, "where none can be");
        qcow2_rig_put(&r, "i.qcow2", l1, 8, l1 | COPIED);
        assert_refused(&r, what, "");
    }
    /* A block of counts that is data, too, is not written over. */
    qcow2_rig_put(&r, "i.qcow2", at, 8, block);
    qcow2_rig_put(&r, "i.qcow2", block + block / CLUSTER * 2, 2, 2);
    assert_refused(&r, Q2_REPAIR_LEAKS, "where something else is");
    qcow2_rig_end(&r);
}

/* Counts that are too narrow for what is used. */
static void test_narrow(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 -o refcount_bits=2 i.qcow2 1M && "
                      "qemu-io -f qcow2 -c 'write -q -P 5 0 1M' i.qcow2 && "
                      "qemu-img snapshot -c s i.qcow2 && cp i.qcow2 good");
    /* Clusters are used twice, and counts have one bit. */
    qcow2_rig_put(&r, "i.qcow2", qcow2_rig_get(&r, "i.qcow2", 48, 8), 8, 0);
    qcow2_rig_put(&r, "i.qcow2", 96, 4, 0);
    assert_refused(&r, Q2_REPAIR_ALL, "have no room");
    qcow2_rig_end(&r);
}

/* ---- all kinds of images ---- */

/* Lies about some counts and flags; where they are was found before. */
static void damage(const struct qcow2_rig *r, unsigned order, unsigned cluster_bits, GRand *rand)
{
    uint64_t table = qcow2_rig_get(r, "i.qcow2", 48, 8);
    uint64_t block = qcow2_rig_get(r, "i.qcow2", table, 8), l1 = qcow2_rig_get(r, "i.qcow2", 40, 8);
    int n = g_rand_int_range(rand, 1, 12);

    for (int i = 0; i < n; i++) {
        uint64_t at =
            block + (uint64_t)g_rand_int_range(rand, 0, 64) * (order < 3 ? 1 : 1 << (order - 3));

        if (g_rand_boolean(rand))
            qcow2_rig_put(r, "i.qcow2", at + (order < 3 ? 0 : (1 << (order - 3)) - 1), 1,
                          g_rand_boolean(rand) ? 0 : g_rand_int(rand) & 255);
        else
            qcow2_rig_put(r, "i.qcow2", l1, 1, qcow2_rig_get(r, "i.qcow2", l1, 1) ^ 0x80);
    }
    if (g_rand_int_range(rand, 0, 4) == 0)
        qcow2_rig_put(r, "i.qcow2", table, 8,
                      g_rand_boolean(rand) ? 0 : UINT64_C(1) << cluster_bits);
}

static void test_kinds(void)
{
    static const struct {
        const char *options;
        unsigned order, bits;
        const char *more; /* commands */
    } kinds[] = {
        {"-o compat=0.10", 4, 16, "true"},
        {"-o cluster_size=512,refcount_bits=64", 6, 9, "true"},
        {"-o cluster_size=512,refcount_bits=1", 0, 9, "true"},
        {"-o cluster_size=2M,refcount_bits=8", 3, 21, "true"},
        {"-o extended_l2=on,refcount_bits=32", 5, 16, "true"},
        {"-o data_file=data", 4, 16, "true"},
        {"-o preallocation=metadata,refcount_bits=2", 1, 16, "true"},
        {"-o cluster_size=4k", 4, 12,
         "qemu-img snapshot -c a i.qcow2 && qemu-io -f qcow2 "
         "-c 'write -q -P 3 100k 300k' i.qcow2 && "
         "qemu-img snapshot -c b i.qcow2"},
        {"-o cluster_size=4k,refcount_bits=16", 4, 12,
         "qemu-img bitmap --add i.qcow2 b && qemu-io -f qcow2 -c 'write -q 0 64k' i.qcow2"},
        {"-o compression_type=zstd", 4, 16,
         "seq 1 200000 | head -c 500000 > text && qemu-img convert -c -f raw -O qcow2 text c.qcow2 "
         "&& mv c.qcow2 i.qcow2"},
    };
    struct q2_repaired done;
    struct q2_error err;
    struct qcow2_rig r;

    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());

        if (!begin(&r, kinds[k].options))
            return;
        qcow2_rig_run(&r, "%s && cp i.qcow2 good", kinds[k].more);
        qcow2_assert_clean(&r, "i.qcow2");
        for (unsigned i = 0; i < 12; i++) {
            damage(&r, kinds[k].order, kinds[k].bits, rand);
            if (repair(&r, Q2_REPAIR_ALL, &done, &err) < 0)
                g_error("%s, round %u: %s", kinds[k].options, i, err.text);
            qcow2_assert_clean(&r, "i.qcow2");
            qcow2_rig_run(&r, "qemu-img compare -q -f qcow2 -F qcow2 good i.qcow2");
            /* The next round damages what this one has made; in the end it is written to. */
        }
        qcow2_rig_run(&r, "for i in good i.qcow2; do qemu-io -f qcow2 -c 'write -q -P 77 10k 300k' "
                          "-c 'discard -q 0 64k' $i || exit 1; done && "
                          "qemu-img compare -q -f qcow2 -F qcow2 good i.qcow2");
        qcow2_assert_clean(&r, "i.qcow2");
        qcow2_rig_end(&r);
    }
}

/* The size of the new counts follows from what is used, not from what the header or the length of the
 * file say. */
static void test_small(void)
{
    g_autofree char *size = NULL;
    struct q2_repaired done;
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "qemu-img resize -q -f qcow2 i.qcow2 64T");
    qcow2_rig_put(&r, "i.qcow2", 56, 4, 16);
    qcow2_rig_run(&r, "truncate -s 1T i.qcow2");
    g_assert_cmpint(repair(&r, Q2_REPAIR_ALL, &done, &err), ==, 0);
    qcow2_assert_clean(&r, "i.qcow2");
    size = qcow2_rig_output(&r, 0, "du -k i.qcow2");
    g_assert_cmpuint(strtoul(size, NULL, 10), <, 2048 + 1024);
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repair/clean", test_clean);
    g_test_add_func("/repair/counts", test_counts);
    g_test_add_func("/repair/structures", test_structures);
    g_test_add_func("/repair/flags", test_flags);
    g_test_add_func("/repair/snapshots", test_snapshots);
    g_test_add_func("/repair/bits", test_bits);
    g_test_add_func("/repair/refused", test_refused);
    g_test_add_func("/repair/narrow", test_narrow);
    g_test_add_func("/repair/kinds", test_kinds);
    g_test_add_func("/repair/small", test_small);
    return g_test_run();
}
