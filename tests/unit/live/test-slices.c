/* SPDX-License-Identifier: BSD-3-Clause */
/* Slices of L2 tables: what runs say, which entries are refused, what is read and written, and who has to make
 * room. By one thread; test-slices-threads has the races. */
#include "tests/rigs/slices-rig.h"

#include <errno.h>
#include <string.h>

#define K       UINT64_C(1024)
#define C       (64 * K) /* bytes of a cluster */
#define SPAN    (UINT64_C(512) << 20)
#define COPIED  Q2_ENTRY_COPIED
#define ENTRIES 512 /* of a slice */

static void assert_run(struct slices_rig *r, uint64_t offset, uint64_t length, enum q2_kind kind,
                       uint64_t host, uint64_t run_length, bool own)
{
    struct live_run run = slices_rig_run(r, offset, length);

    g_assert_cmpint(run.kind, ==, kind);
    g_assert_cmphex(run.host, ==, host);
    g_assert_cmphex(run.length, ==, run_length);
    g_assert_cmpint(run.own, ==, own);
}

static void assert_log(struct slices_rig *r, const char *expected)
{
    g_autofree char *log = slices_rig_log(r);

    g_assert_cmpstr(log, ==, expected);
}

/* ---- runs ---- */

static void test_kinds(void)
{
    struct slices_rig r;
    struct live_run run;

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 100 * C);
    slices_rig_entry(&r, 0, (20 * C) | COPIED, 0);
    slices_rig_entry(&r, 1, (21 * C) | COPIED, 0);
    slices_rig_entry(&r, 2, 22 * C, 0);
    slices_rig_entry(&r, 3, 23 * C, 0);
    slices_rig_entry(&r, 4, (30 * C) | COPIED, 0);
    slices_rig_entry(&r, 5, 1, 0);
    slices_rig_entry(&r, 6, 1, 0);
    slices_rig_entry(&r, 7, (31 * C) | COPIED | 1, 0);
    slices_rig_entry(&r, 8, (32 * C) | COPIED | 1, 0);
    slices_rig_entry(&r, 9, Q2_ENTRY_COMPRESSED | (UINT64_C(3) << 54) | (40 * C + 100), 0);
    slices_rig_entry(&r, 10, Q2_ENTRY_COMPRESSED | (40 * C + 1000), 0);

    assert_run(&r, 0, 20 * C, Q2_DATA, 20 * C, 2 * C, true);
    assert_run(&r, 1000, 20 * C, Q2_DATA, 20 * C + 1000, 2 * C - 1000, true);
    assert_run(&r, 1000, 10, Q2_DATA, 20 * C + 1000, 10, true);
    assert_run(&r, 2 * C, 20 * C, Q2_DATA, 22 * C, 2 * C, false);
    assert_run(&r, 4 * C, 20 * C, Q2_DATA, 30 * C, C, true);
    assert_run(&r, 5 * C, 20 * C, Q2_ZERO, 0, 2 * C, false);
    assert_run(&r, 7 * C + 1, 20 * C, Q2_ZERO, 31 * C + 1, 2 * C - 1, true);
    run = slices_rig_run(&r, 9 * C + 5, 20 * C);
    g_assert_cmpint(run.kind, ==, Q2_COMPRESSED);
    g_assert_cmphex(run.host, ==, 40 * C + 100);
    g_assert_cmpuint(run.bytes, ==, 4 * 512 - 100);
    g_assert_cmphex(run.length, ==, C - 5);
    g_assert_false(run.own);
    g_assert_cmphex(run.word, ==, Q2_ENTRY_COMPRESSED | (UINT64_C(3) << 54) | (40 * C + 100));
    /* To the end of the slice. */
    assert_run(&r, 11 * C, SPAN, Q2_UNALLOCATED, 0, (ENTRIES - 11) * C, false);
    slices_rig_end(&r);
}

static void test_absent_tables(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.size = 1000 * SPAN});
    slices_rig_table(&r, 999);
    assert_run(&r, 7, 1000 * SPAN - 7, Q2_UNALLOCATED, 0, 999 * SPAN - 7, false);
    assert_run(&r, 7, 100, Q2_UNALLOCATED, 0, 100, false);
    g_assert_cmpuint(r.count[SLICES_READ], ==, 0);
    slices_rig_end(&r);
}

static void test_extended(void)
{
    struct slices_rig r;
    uint64_t sub = C / 32;

    slices_rig_begin(&r, &(struct slices_options){.extended = true});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 100 * C);
    slices_rig_entry(&r, 0, (20 * C) | COPIED, (UINT64_C(0xc) << 32) | 0x3);
    slices_rig_entry(&r, 1, (21 * C) | COPIED, UINT32_MAX);
    slices_rig_entry(&r, 2, (22 * C) | COPIED, UINT32_MAX);
    slices_rig_entry(&r, 3, 0, (uint64_t)UINT32_MAX << 32);
    slices_rig_entry(&r, 4, 0, UINT64_C(1) << 32);
    slices_rig_entry(&r, 5, (23 * C) | COPIED, UINT64_C(1) << 32 | 1);
    assert_run(&r, 10, 100 * C, Q2_DATA, 20 * C + 10, 2 * sub - 10, true);
    assert_run(&r, 2 * sub, 100 * C, Q2_ZERO, 20 * C + 2 * sub, 2 * sub, true);
    assert_run(&r, 4 * sub, 100 * C, Q2_UNALLOCATED, 20 * C + 4 * sub, 28 * sub, true);
    assert_run(&r, C, 100 * C, Q2_DATA, 21 * C, 2 * C, true);
    assert_run(&r, 3 * C, 100 * C, Q2_ZERO, 0, C + sub, false);
    assert_run(&r, 5 * C, 100 * C, Q2_INVALID, 0, sub, false);
    slices_rig_end(&r);
}

static void test_data_file(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.data_file = true});
    slices_rig_table(&r, 0);
    g_assert_cmpint(live_file_usual.pwrite(&r.layer.data, "", 1, 10 * C, false), ==, 0);
    slices_rig_entry(&r, 0, COPIED, 0);
    slices_rig_entry(&r, 1, C | COPIED, 0);
    slices_rig_entry(&r, 2, (11 * C) | COPIED, 0);
    assert_run(&r, 5, 100 * C, Q2_DATA, 5, 2 * C - 5, true);
    assert_run(&r, 2 * C, 100 * C, Q2_INVALID, 0, C, false);
    slices_rig_end(&r);
}

static void test_raw(void)
{
    struct live_layer l = {.raw = true};
    struct live_run run;

    g_assert_cmpint(live_slices_init(&l, 1 << 20), ==, 0);
    g_assert_true(live_slices_run(&l, 1000, 5000, &run));
    g_assert_cmpint(run.kind, ==, Q2_DATA);
    g_assert_cmpuint(run.host, ==, 1000);
    g_assert_cmpuint(run.length, ==, 5000);
    g_assert_false(live_slices_dirty(&l));
    live_slices_clear(&l);
}

/* ---- what is refused ---- */

static void assert_broken(struct slices_rig *r, uint64_t offset, const char *why)
{
    struct live_run run = slices_rig_run(r, offset, SPAN);

    g_assert_cmpint(run.kind, ==, Q2_INVALID);
    g_assert_nonnull(strstr(run.why, why));
    g_assert_false(run.own);
}

static void put_bad_entries(struct slices_rig *r)
{
    slices_rig_table(r, 0);
    slices_rig_grow(r, 100 * C);
    slices_rig_entry(r, 0, (20 * C) | COPIED, 0);
    slices_rig_entry(r, 1, (21 * C + 512) | COPIED, 0);
    slices_rig_entry(r, 2, (100 * C) | COPIED, 0);
    slices_rig_entry(r, 3, (30 * C) | COPIED, 0);
    slices_rig_entry(r, 4, (200 * C) | COPIED | 1, 0);
    slices_rig_entry(r, 5, Q2_ENTRY_COMPRESSED | (100 * C), 0);
    slices_rig_entry(r, 6, Q2_ENTRY_COMPRESSED | (UINT64_C(3) << 54) | (30 * C - 512), 0);
    slices_rig_entry(r, 7, (22 * C) | COPIED, 0);
    atomic_store(&r->metadata, 30 * C);
}

static void test_bad_entries(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){0});
    put_bad_entries(&r);
    assert_run(&r, 0, SPAN, Q2_DATA, 20 * C, C, true);
    assert_broken(&r, C, "breaks the rules");
    assert_broken(&r, 2 * C, "behind the end");
    assert_broken(&r, 3 * C, "tables");
    assert_broken(&r, 4 * C, "behind the end");
    assert_broken(&r, 5 * C, "behind the end");
    assert_broken(&r, 6 * C, "tables");
    assert_run(&r, 7 * C, SPAN, Q2_DATA, 22 * C, C, true);
    slices_rig_end(&r);
}

/* The file grows beyond a cluster that was not there: it does not turn into zeroes. */
static void test_file_that_was_cut(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_table(&r, 0);
    slices_rig_entry(&r, 0, (20 * C) | COPIED, 0);
    slices_rig_entry(&r, 1, (30 * C) | COPIED, 0);
    slices_rig_entry(&r, 2, 1, 0);
    slices_rig_entry(&r, 3, (5 * C) | COPIED | 1, 0);
    slices_rig_entry(&r, 4, Q2_ENTRY_COMPRESSED | (30 * C), 0);
    assert_broken(&r, 0, "behind the end");
    atomic_store(&r.first, 30 * C);
    slices_rig_extend(&r, 100 * C);
    assert_broken(&r, 0, "behind the end");
    assert_broken(&r, C, "behind the end");
    assert_run(&r, 2 * C, C, Q2_ZERO, 0, C, false);
    assert_broken(&r, 3 * C, "behind the end");
    assert_broken(&r, 4 * C, "behind the end");
    slices_rig_end(&r);
}

/* An entry that leads to where the reserve is: found in the first slice that is read late, too. What is changed there
 * would be taken for ours when it is read again: so nothing is. */
static void test_entry_into_the_reserve(void)
{
    struct slices_rig r;
    struct live_entry e = {(40 * C) | COPIED, 0};

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 30 * C);
    slices_rig_entry(&r, 0, (30 * C) | COPIED, 0);
    slices_rig_entry(&r, 1, (29 * C) | COPIED, 0);
    slices_rig_extend(&r, 100 * C);
    assert_broken(&r, 0, "behind the end");
    assert_run(&r, C, C, Q2_DATA, 29 * C, C, true);
    g_assert_cmpuint(r.told->len, ==, 0);
    g_assert_cmpint(live_slices_change(&r.layer, 7, 1, &e, false), ==, -EIO);
    g_assert_cmpuint(r.told->len, ==, 1);
    g_assert_nonnull(strstr(r.told->pdata[0], "behind the end of the file"));
    g_assert_false(live_slices_dirty(&r.layer));
    assert_broken(&r, 0, "behind the end");
    assert_run(&r, 7 * C, C, Q2_UNALLOCATED, 0, C, false);
    slices_rig_end(&r);
}

/* The reserve's places are ours in slices that we have changed, also when they come from the file. */
static void test_own_places_read_again(void)
{
    struct slices_rig r;
    unsigned n = 64;

    slices_rig_begin(&r, &(struct slices_options){.size = n * SPAN, .memory = 1});
    slices_rig_grow(&r, 30 * C);
    slices_rig_extend(&r, 100 * C);
    for (unsigned i = 0; i < n; i++)
        slices_rig_change(&r, i * (SPAN / C) + 5, ((30 + i) * C) | COPIED, 0, false);
    for (unsigned i = 0; i < n; i++)
        assert_run(&r, i * SPAN + 5 * C, C, Q2_DATA, (30 + i) * C, C, true);
    g_assert_cmpuint(r.count[SLICES_READ], >=, n / 2);
    slices_rig_end(&r);
}

/* A compressed cluster ends inside of the file, rounded up; and no table lies on its way. */
static void test_bad_compressed(void)
{
    struct slices_rig r;
    uint64_t more = UINT64_C(3) << 60; /* further sectors: 2048 bytes of 1024 each */

    slices_rig_begin(&r, &(struct slices_options){.cluster_bits = 10});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 200 * 1024 - 500);
    slices_rig_entry(&r, 0, Q2_ENTRY_COMPRESSED | more | (198 * 1024), 0);
    slices_rig_entry(&r, 1, Q2_ENTRY_COMPRESSED | more | (198 * 1024 + 512), 0);
    slices_rig_entry(&r, 2, Q2_ENTRY_COMPRESSED | more | (150 * 1024 - 512), 0);
    atomic_store(&r.metadata, 150 * 1024);
    slices_rig_extend(&r, 300 * 1024);
    g_assert_cmpint(slices_rig_run(&r, 0, 1024).kind, ==, Q2_COMPRESSED);
    assert_broken(&r, 1024, "behind the end");
    assert_broken(&r, 2048, "tables");
    slices_rig_end(&r);
}

/* Where nothing is written, a place without data is nobody's trouble, nor is what lies on a table. */
static void test_bad_entries_read_only(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.read_only = true});
    put_bad_entries(&r);
    assert_broken(&r, C, "breaks the rules");
    assert_broken(&r, 2 * C, "behind the end");
    assert_run(&r, 3 * C, SPAN, Q2_DATA, 30 * C, C, true);
    assert_run(&r, 4 * C, SPAN, Q2_ZERO, 200 * C, C, true);
    assert_broken(&r, 5 * C, "behind the end");
    slices_rig_end(&r);
}

/* Each subcluster by itself; but a cluster has one place. */
static void test_bad_extended(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.extended = true, .read_only = true});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 100 * C);
    slices_rig_entry(&r, 0, (200 * C) | COPIED, (UINT64_C(1) << 32) | 2);
    assert_run(&r, 0, C, Q2_ZERO, 200 * C, C / 32, true);
    assert_broken(&r, C / 32, "behind the end");
    assert_run(&r, C / 16, C, Q2_UNALLOCATED, 200 * C + C / 16, C * 15 / 16, true);
    slices_rig_end(&r);
}

static void test_bad_tables(void)
{
    struct slices_rig r;
    struct live_entry e = {(20 * C) | COPIED, 0};

    slices_rig_begin(&r, &(struct slices_options){.size = 3 * SPAN});
    slices_rig_grow(&r, 100 * C);
    r.layer.l1[0] = (5 * C + 512) | COPIED;
    r.layer.l1[1] = (100 * C) | COPIED;
    r.layer.l1[2] = 50 * C;
    assert_broken(&r, 5, "L1");
    g_assert_cmphex(slices_rig_run(&r, 5, SPAN).length, ==, SPAN - 5);
    assert_broken(&r, SPAN, "behind the end");
    assert_run(&r, 2 * SPAN, SPAN, Q2_UNALLOCATED, 0, ENTRIES * C, false);
    /* None is written to: behind the end, and not its own. */
    g_assert_cmpint(live_slices_change(&r.layer, SPAN / C, 1, &e, false), ==, -EIO);
    g_assert_cmpint(live_slices_change(&r.layer, 2 * SPAN / C, 1, &e, false), ==, -EIO);
    g_assert_cmpuint(r.told->len, ==, 1);
    g_assert_nonnull(strstr(r.told->pdata[0], "not this disk's own"));
    g_assert_false(live_slices_dirty(&r.layer));
    slices_rig_end(&r);
}

/* ---- what is read ---- */

static void test_reads_little(void)
{
    struct slices_rig r;
    struct live_run run;

    slices_rig_begin(&r, &(struct slices_options){.size = UINT64_C(1) << 40});
    slices_rig_table(&r, 1000);
    g_assert_false(live_slices_run(&r.layer, 1000 * SPAN, C, &run));
    slices_rig_run(&r, 1000 * SPAN, C);
    slices_rig_run(&r, 1000 * SPAN + (ENTRIES - 1) * C, C);
    g_assert_true(live_slices_run(&r.layer, 1000 * SPAN, C, &run));
    g_assert_cmpuint(r.count[SLICES_READ], ==, 1);
    g_assert_cmpuint(r.bytes[SLICES_READ], ==, 4096);
    slices_rig_end(&r);
}

static void test_small_clusters(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.cluster_bits = 9});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 512 * 100);
    slices_rig_entry(&r, 63, (512 * 50) | COPIED, 0);
    assert_run(&r, 63 * 512, 512, Q2_DATA, 512 * 50, 512, true);
    g_assert_cmpuint(r.bytes[SLICES_READ], ==, 512);
    g_assert_cmpuint(live_slices_room(&r.layer, 62), ==, 2);
    slices_rig_end(&r);
}

static void test_read_fails(void)
{
    struct slices_rig r;
    struct live_run run;

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_table(&r, 0);
    atomic_store(&r.fails[SLICES_READ], -EIO);
    g_assert_cmpint(live_slices_run_wait(&r.layer, 0, C, &run), ==, -EIO);
    g_assert_false(live_slices_run(&r.layer, 0, C, &run));
    atomic_store(&r.fails[SLICES_READ], 0);
    assert_run(&r, 0, C, Q2_UNALLOCATED, 0, C, false);
    slices_rig_end(&r);
}

/* The least memory is one set; a sparse image of many tables has no more slices there. */
static void test_memory_is_bounded(void)
{
    struct slices_rig r;
    uint64_t tables = 100000, table, span = 64 * 512;
    unsigned in_memory = 0;
    struct live_run run;

    slices_rig_begin(
        &r, &(struct slices_options){.cluster_bits = 9, .size = tables * span, .memory = 64 * K});
    table = slices_rig_table(&r, 0);
    for (uint64_t i = 0; i < tables; i++)
        r.layer.l1[i] = table | COPIED;
    for (uint64_t i = 0; i < tables; i++)
        slices_rig_run(&r, i * span, span);
    for (uint64_t i = 0; i < tables; i++)
        in_memory += live_slices_run(&r.layer, i * span, span, &run);
    g_assert_cmpuint(in_memory, ==, 64 * K / 512);
    slices_rig_end(&r);
}

/* What is used again and again stays, while others come once. */
static void test_what_is_used_stays(void)
{
    struct slices_rig r;
    uint64_t reads;

    slices_rig_begin(&r, &(struct slices_options){.memory = 1});
    slices_rig_table(&r, 0);
    slices_rig_table(&r, 1);
    for (unsigned i = 0; i < 32; i++) {
        slices_rig_run(&r, i * ENTRIES * C, C);
        slices_rig_run(&r, 0, C);
    }
    reads = r.count[SLICES_READ];
    g_assert_cmpuint(reads, <=, 33);
    slices_rig_end(&r);
}

/* ---- changes ---- */

static void test_change(void)
{
    struct slices_rig r;
    struct live_entry e[2] = {{(20 * C) | COPIED, 0}, {1, 0}};

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 100 * C);
    g_assert_cmpuint(live_slices_room(&r.layer, 510), ==, 2);
    g_assert_cmpint(live_slices_change(&r.layer, 510, 2, e, false), ==, 0);
    assert_run(&r, 510 * C, C, Q2_DATA, 20 * C, C, true);
    assert_run(&r, 511 * C, C, Q2_ZERO, 0, C, false);
    g_assert_true(live_slices_dirty(&r.layer));
    g_assert_false(live_slices_flagged(&r.layer));
    g_assert_cmphex(slices_rig_get(&r, 510), ==, 0);
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    g_assert_cmphex(slices_rig_get(&r, 510), ==, (20 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&r, 511), ==, 1);
    g_assert_false(live_slices_dirty(&r.layer));
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    g_assert_cmpuint(r.count[SLICES_WRITE], ==, 1);
    slices_rig_end(&r);
}

static void test_change_makes_a_table(void)
{
    struct slices_rig r;
    uint64_t cluster = SPAN / C + 3;

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_change(&r, cluster, (20 * C) | COPIED, 0, false);
    slices_rig_grow(&r, 100 * C);
    assert_run(&r, SPAN + 3 * C, C, Q2_DATA, 20 * C, C, true);
    /* The other slices of the table are zeroes in the file. */
    assert_run(&r, SPAN + 3 * ENTRIES * C, C, Q2_UNALLOCATED, 0, C, false);
    slices_rig_change(&r, cluster + ENTRIES, (21 * C) | COPIED, 0, false);
    g_assert_cmpint(r.tables, ==, 1);
    g_assert_cmphex(slices_rig_get_l1(&r, 1), ==, 0);
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    g_assert_cmphex(slices_rig_get_l1(&r, 1), ==, atomic_load(&r.layer.l1[1]));
    g_assert_true(atomic_load(&r.layer.l1[1]) & COPIED);
    g_assert_cmphex(slices_rig_get(&r, cluster), ==, (20 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&r, cluster + ENTRIES), ==, (21 * C) | COPIED);
    g_assert_false(live_slices_dirty(&r.layer));
    slices_rig_end(&r);
}

static void test_no_room_for_a_table(void)
{
    struct slices_rig r;
    struct live_entry e = {(20 * C) | COPIED, 0};

    slices_rig_begin(&r, &(struct slices_options){0});
    atomic_store(&r.take_fails, -ENOSPC);
    g_assert_cmpint(live_slices_change(&r.layer, 0, 1, &e, true), ==, -ENOSPC);
    g_assert_false(live_slices_dirty(&r.layer));
    assert_run(&r, 0, C, Q2_UNALLOCATED, 0, C, false);
    atomic_store(&r.take_fails, 0);
    g_assert_cmpint(live_slices_change(&r.layer, 0, 1, &e, true), ==, 0);
    slices_rig_grow(&r, 100 * C);
    assert_run(&r, 0, C, Q2_DATA, 20 * C, C, true);
    slices_rig_end(&r);
}

static void test_l1_in_pieces(void)
{
    struct slices_rig r;
    uint64_t at;
    g_autofree char *expected = NULL;

    slices_rig_begin(&r, &(struct slices_options){.size = 150 * SPAN});
    slices_rig_change(&r, 149 * SPAN / C, (20 * C) | COPIED, 0, false);
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    at = atomic_load(&r.layer.l1[149]) & Q2_ENTRY_OFFSET;
    expected = g_strdup_printf("w %" G_GUINT64_FORMAT " w %" G_GUINT64_FORMAT, (guint64)at,
                               (guint64)(C + 1024));
    assert_log(&r, expected);
    g_assert_cmpuint(r.bytes[SLICES_WRITE], ==, 4096 + (150 - 128) * 8);
    slices_rig_end(&r);
}

static void test_longer_l1(void)
{
    struct slices_rig r;
    uint64_t l1[300] = {0};

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, false);
    slices_rig_grow(&r, 100 * C);
    l1[0] = r.layer.l1[0];
    g_assert_cmpint(live_slices_set_l1(&r.layer, l1, 300, 60 * C), ==, 0);
    g_assert_true(live_slices_dirty(&r.layer));
    assert_run(&r, 0, C, Q2_DATA, 20 * C, C, true);
    assert_run(&r, SPAN, 299 * SPAN, Q2_UNALLOCATED, 0, 299 * SPAN, false);
    slices_rig_change(&r, 299 * SPAN / C, (21 * C) | COPIED, 0, false);
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    g_assert_false(live_slices_dirty(&r.layer));
    g_assert_cmphex(slices_rig_get_l1(&r, 299), ==, live_l1_word(&r.layer, 299));
    g_assert_cmphex(slices_rig_get_l1(&r, 299), !=, 0);
    slices_rig_end(&r);
}

/* ---- writing back, and making room ---- */

static void test_full_file_system(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, false);
    atomic_store(&r.fails[SLICES_WRITE], -ENOSPC);
    g_assert_cmpint(live_slices_write(&r.layer), ==, -ENOSPC);
    g_assert_true(live_slices_dirty(&r.layer));
    atomic_store(&r.fails[SLICES_WRITE], 0);
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    g_assert_false(live_slices_dirty(&r.layer));
    g_assert_cmphex(slices_rig_get(&r, 0), ==, (20 * C) | COPIED);
    slices_rig_end(&r);
}

static void test_write_fails_for_ever(void)
{
    struct slices_rig r;
    struct live_entry e = {(20 * C) | COPIED, 0};

    slices_rig_begin(&r, &(struct slices_options){0});
    slices_rig_grow(&r, 100 * C);
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, false);
    atomic_store(&r.fails[SLICES_WRITE], -EIO);
    g_assert_cmpint(live_slices_write(&r.layer), ==, -EIO);
    atomic_store(&r.fails[SLICES_WRITE], 0);
    g_assert_cmpint(live_slices_write(&r.layer), ==, -EIO);
    g_assert_cmpint(live_slices_change(&r.layer, 1, 1, &e, false), ==, -EIO);
    g_assert_cmpint(live_commit(&r.image), ==, -EIO);
    g_assert_cmphex(slices_rig_get(&r, 0), ==, 0);
    /* It is still read. */
    assert_run(&r, 0, C, Q2_DATA, 20 * C, C, true);
    g_assert_cmpuint(r.told->len, ==, 1);
    slices_rig_end(&r);
}

/* Two tables of 16 slices each, and 8 places in memory. */
static void change_all(struct slices_rig *r, uint64_t first_host, bool flagged)
{
    for (unsigned i = 0; i < 32; i++)
        slices_rig_change(r, i * ENTRIES, (first_host + i * C) | COPIED, 0, flagged);
}

static void assert_all(struct slices_rig *r, uint64_t first_host)
{
    for (unsigned i = 0; i < 32; i++)
        assert_run(r, i * ENTRIES * C, C, Q2_DATA, first_host + i * C, C, true);
}

static void test_dirty_ones_are_written_back(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.memory = 1});
    slices_rig_grow(&r, 100 * C);
    change_all(&r, 20 * C, false);
    g_assert_cmpuint(r.count[SLICES_WRITE], >=, 24);
    assert_all(&r, 20 * C);
    g_assert_cmpuint(r.count[SLICES_SYNC], ==, 0);
    slices_rig_end(&r);
}

static void test_flagged_ones_need_a_commit(void)
{
    struct slices_rig r;

    slices_rig_begin(&r, &(struct slices_options){.memory = 1});
    slices_rig_grow(&r, 100 * C);
    change_all(&r, 20 * C, true);
    g_assert_cmpuint(r.count[SLICES_SYNC], >=, 3 * 2);
    assert_all(&r, 20 * C);
    slices_rig_end(&r);
}

static void test_nobody_makes_room(void)
{
    struct slices_rig r;
    struct live_entry e = {(90 * C) | COPIED, 0};

    slices_rig_begin(&r, &(struct slices_options){.memory = 1});
    slices_rig_grow(&r, 100 * C);
    r.image.make_room = NULL;
    for (unsigned i = 0; i < 8; i++)
        slices_rig_change(&r, i * ENTRIES, (20 * C) | COPIED, 0, true);
    g_assert_cmpint(live_slices_change(&r.layer, 8 * ENTRIES, 1, &e, true), <, 0);
    r.image.make_room = live_commit;
    g_assert_cmpint(live_slices_change(&r.layer, 8 * ENTRIES, 1, &e, true), ==, 0);
    slices_rig_end(&r);
}

/* ---- copies of what is flagged ---- */

static void test_copies(void)
{
    struct slices_rig r;
    struct live_copy *copies;

    slices_rig_begin(&r, &(struct slices_options){.memory = 1});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 100 * C);
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, true);
    g_assert_cmpint(live_slices_write(&r.layer), ==, 0);
    g_assert_cmphex(slices_rig_get(&r, 0), ==, 0);
    g_assert_cmpint(live_slices_take_flagged(&r.layer, &copies), ==, 0);
    g_assert_nonnull(copies);
    g_assert_false(live_slices_flagged(&r.layer));
    /* A change after the copy needs a sync of its own; the slice is not read from the file meanwhile. */
    slices_rig_change(&r, 1, (21 * C) | COPIED, 0, true);
    for (unsigned i = 1; i < 16; i++)
        slices_rig_run(&r, i * ENTRIES * C, C);
    assert_run(&r, 0, C, Q2_DATA, 20 * C, C, true);
    g_assert_cmpint(live_slices_end_flagged(&r.layer, copies, 0), ==, 0);
    g_assert_cmphex(slices_rig_get(&r, 0), ==, (20 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&r, 1), ==, 0);
    g_assert_true(live_slices_flagged(&r.layer));
    slices_rig_end(&r);
}

/* A clean slice whose copy is on its way is not evicted: the file has the old one. */
static void test_copies_stay(void)
{
    struct slices_rig r;
    struct live_copy *copies;

    slices_rig_begin(&r, &(struct slices_options){.memory = 1});
    slices_rig_table(&r, 0);
    slices_rig_grow(&r, 100 * C);
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, true);
    g_assert_cmpint(live_slices_take_flagged(&r.layer, &copies), ==, 0);
    for (unsigned i = 1; i < 160; i++)
        slices_rig_run(&r, i % 15 * ENTRIES * C + ENTRIES * C, C);
    assert_run(&r, 0, C, Q2_DATA, 20 * C, C, true);
    g_assert_cmpint(live_slices_end_flagged(&r.layer, copies, -EIO), ==, -EIO);
    g_assert_true(live_slices_flagged(&r.layer));
    g_assert_cmphex(slices_rig_get(&r, 0), ==, 0);
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    g_assert_cmphex(slices_rig_get(&r, 0), ==, (20 * C) | COPIED);
    slices_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/slices/kinds", test_kinds);
    g_test_add_func("/slices/absent-tables", test_absent_tables);
    g_test_add_func("/slices/extended", test_extended);
    g_test_add_func("/slices/data-file", test_data_file);
    g_test_add_func("/slices/raw", test_raw);
    g_test_add_func("/slices/bad/entries", test_bad_entries);
    g_test_add_func("/slices/bad/entries-read-only", test_bad_entries_read_only);
    g_test_add_func("/slices/bad/file-that-was-cut", test_file_that_was_cut);
    g_test_add_func("/slices/bad/entry-into-the-reserve", test_entry_into_the_reserve);
    g_test_add_func("/slices/bad/compressed", test_bad_compressed);
    g_test_add_func("/slices/own-places-read-again", test_own_places_read_again);
    g_test_add_func("/slices/bad/extended", test_bad_extended);
    g_test_add_func("/slices/bad/tables", test_bad_tables);
    g_test_add_func("/slices/reads-little", test_reads_little);
    g_test_add_func("/slices/small-clusters", test_small_clusters);
    g_test_add_func("/slices/read-fails", test_read_fails);
    g_test_add_func("/slices/memory-is-bounded", test_memory_is_bounded);
    g_test_add_func("/slices/what-is-used-stays", test_what_is_used_stays);
    g_test_add_func("/slices/change", test_change);
    g_test_add_func("/slices/change-makes-a-table", test_change_makes_a_table);
    g_test_add_func("/slices/no-room-for-a-table", test_no_room_for_a_table);
    g_test_add_func("/slices/l1-in-pieces", test_l1_in_pieces);
    g_test_add_func("/slices/longer-l1", test_longer_l1);
    g_test_add_func("/slices/full-file-system", test_full_file_system);
    g_test_add_func("/slices/write-fails-for-ever", test_write_fails_for_ever);
    g_test_add_func("/slices/dirty-ones-are-written-back", test_dirty_ones_are_written_back);
    g_test_add_func("/slices/flagged-ones-need-a-commit", test_flagged_ones_need_a_commit);
    g_test_add_func("/slices/nobody-makes-room", test_nobody_makes_room);
    g_test_add_func("/slices/copies", test_copies);
    g_test_add_func("/slices/copies-stay", test_copies_stay);
    return g_test_run();
}
