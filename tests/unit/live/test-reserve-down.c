/* SPDX-License-Identifier: BSD-3-Clause */
/* What is given up is counted down, once for each use, when it is told to; and its room comes back. */
#include "tests/rigs/space-rig.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define CLUSTER  4096
#define CLUSTERS 512 /* of the disk: one L2 table */

/* An image of which each entry was taken away, and what they led to. */
struct unlinked {
    struct space_rig rig;
    uint64_t host[CLUSTERS], bytes[CLUSTERS];
    uint64_t leaks;
    uint64_t table; /* the L2 table */
};

static void make_content(struct space_rig *r)
{
    g_autofree char *path = qcow2_rig_path(&r->files, "content.raw");
    g_autofree uint8_t *bytes = g_malloc0(CLUSTERS * CLUSTER);
    g_autoptr(GError) err = NULL;

    for (size_t at = 0; at < CLUSTERS * CLUSTER; at++)
        bytes[at] = at / 1000 % 3 ? (uint8_t)(at / 7 % 11 + 1) : (uint8_t)g_test_rand_int();
    g_file_set_contents(path, (char *)bytes, CLUSTERS * CLUSTER, &err);
    g_assert_no_error(err);
}

/* `what`: of qemu-img convert. */
static bool begin(struct unlinked *u, const char *what)
{
    const struct q2_geometry g = {.cluster_bits = 12, .zero_flag = true};
    struct space_rig *r = &u->rig;

    if (!space_rig_begin(r))
        return false;
    make_content(r);
    qcow2_rig_run(&r->files, "qemu-img convert -O qcow2 -o cluster_size=%d%s content.raw i.qcow2",
                  CLUSTER, what);
    u->table = qcow2_rig_l2(&r->files, "i.qcow2", 0);
    for (unsigned i = 0; i < CLUSTERS; i++) {
        uint64_t word = qcow2_rig_get(&r->files, "i.qcow2", u->table + i * 8, 8);
        struct q2_entry e = q2_entry_l2(&g, word, 0, 0);

        g_assert_cmpuint(e.host, !=, 0);
        u->host[i] = e.host;
        u->bytes[i] = e.kind == Q2_COMPRESSED ? e.length : CLUSTER;
        qcow2_rig_put(&r->files, "i.qcow2", u->table + i * 8, 8, 0);
    }
    u->leaks = space_rig_leaks(r, true);
    g_assert_cmpuint(u->leaks, >, 0);
    space_rig_keep(r);
    space_rig_must_open(r);
    return true;
}

static void give_up(struct unlinked *u, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        live_reserve_give_up(&u->rig.image, u->host[i], u->bytes[i]);
}

static int count_down(struct space_rig *r)
{
    return live_reserve_count_down(&r->image, live_reserve_given_up(&r->image));
}

static const char *const kinds[] = {"", ",refcount_bits=1", " -c", ",refcount_bits=64 -c",
                                    ",refcount_bits=2"};

static void test_all(gconstpointer kind)
{
    struct unlinked u;
    uint64_t room;

    if (!begin(&u, kind))
        return;
    room = space_rig_file_room(&u.rig);
    give_up(&u, 0, CLUSTERS);
    g_assert_cmpuint(space_rig_leaks(&u.rig, false), ==, u.leaks);
    g_assert_cmpint(count_down(&u.rig), ==, 0);
    g_assert_cmpuint(space_rig_leaks(&u.rig, true), ==, 0);
    /* The file may end inside of a page, which it keeps. */
    g_assert_cmpuint(space_rig_file_room(&u.rig), <=, room - (u.leaks - 1) * CLUSTER);
    g_assert_cmpint(count_down(&u.rig), ==, 0);
    g_assert_cmpstr(u.rig.told->str, ==, "");
    space_rig_end(&u.rig);
}

static uint64_t kept(const struct unlinked *u, uint64_t at)
{
    const uint8_t *bytes = g_bytes_get_data(u->rig.kept, NULL);

    return (uint64_t)bytes[at] << 8 | bytes[at + 1];
}

/* What is given up is punched, and nothing else: the others have their first bytes still. */
static void assert_kept(struct unlinked *u, unsigned from)
{
    for (unsigned i = from; i < CLUSTERS; i++)
        g_assert_cmpuint(qcow2_rig_get(&u->rig.files, "i.qcow2", u->host[i] + 1, 2), ==,
                         kept(u, u->host[i] + 1));
}

/* Only what had been given up when a commit began. */
static void count_first_down(struct unlinked *u, unsigned n)
{
    space_rig_reset(&u->rig);
    space_rig_must_open(&u->rig);
    give_up(u, 0, n);
    g_assert_cmpuint(live_reserve_given_up(&u->rig.image), ==, n);
    give_up(u, n, CLUSTERS);
    g_assert_cmpint(live_reserve_count_down(&u->rig.image, n), ==, 0);
    g_assert_cmpuint(space_rig_leaks(&u->rig, true), >, u->leaks / 2);
    assert_kept(u, n);
    g_assert_cmpint(live_reserve_count_down(&u->rig.image, n), ==, 0);
    assert_kept(u, n);
    g_assert_cmpint(count_down(&u->rig), ==, 0);
    g_assert_cmpuint(space_rig_leaks(&u->rig, true), ==, 0);
}

/* Of compressed clusters, a host cluster has several: one of these times, one of them is left in it. */
static void test_first_ones(gconstpointer kind)
{
    struct unlinked u;

    if (!begin(&u, kind))
        return;
    for (unsigned n = 100; n < 108; n++)
        count_first_down(&u, n);
    space_rig_end(&u.rig);
}

static void test_no_holes(void)
{
    struct unlinked u;

    if (!begin(&u, ""))
        return;
    u.rig.no_holes = true;
    give_up(&u, 0, CLUSTERS);
    g_assert_cmpint(count_down(&u.rig), ==, 0);
    g_assert_cmpuint(space_rig_leaks(&u.rig, true), ==, 0);
    space_rig_end(&u.rig);
}

/* The process dies before each change, or one change fails: what is left is a leak. */
static void test_failures(gconstpointer kind)
{
    struct unlinked u;
    unsigned changes;

    if (!begin(&u, kind))
        return;
    give_up(&u, 0, CLUSTERS);
    g_assert_cmpint(count_down(&u.rig), ==, 0);
    changes = u.rig.changes;
    for (unsigned i = 0; i < 2 * changes; i++) {
        space_rig_reset(&u.rig);
        space_rig_must_open(&u.rig);
        u.rig.fail_at = i / 2;
        u.rig.error = i % 2 ? -EIO : -ENOSPC;
        u.rig.dead = i % 2;
        give_up(&u, 0, CLUSTERS);
        g_assert_cmpint(count_down(&u.rig), ==, u.rig.error);
        g_assert_cmpint(count_down(&u.rig), ==, 0);
        space_rig_close(&u.rig);
        g_assert_cmpuint(space_rig_leaks(&u.rig, i % 64 == 0), <=, u.leaks);
    }
    space_rig_end(&u.rig);
}

/* ---- what was taken ---- */

static void test_drop(void)
{
    struct unlinked u;
    uint64_t host, table;

    if (!begin(&u, ""))
        return;
    g_assert_cmpint(space_rig_take(&u.rig, 7, &host), ==, 7);
    live_reserve_drop(&u.rig.image, host, 7);
    g_assert_cmpint(live_reserve_take_table(&u.rig.image, &table), ==, 0);
    g_assert_cmpuint(table, ==, host + 7 * CLUSTER);
    g_assert_true(live_reserve_is_metadata(&u.rig.image, table));
    live_reserve_drop(&u.rig.image, table, 1);
    g_assert_false(live_reserve_is_metadata(&u.rig.image, table));
    g_assert_cmpint(space_rig_take(&u.rig, 1, &host), ==, 1);
    g_assert_cmpuint(host, ==, table + CLUSTER);
    g_assert_cmpint(count_down(&u.rig), ==, 0);
    g_assert_cmpint(live_reserve_return(&u.rig.image), ==, 0);
    g_assert_cmpuint(space_rig_leaks(&u.rig, true), ==, u.leaks + 1);
    g_assert_cmpstr(u.rig.told->str, ==, "");
    space_rig_end(&u.rig);
}

/* ---- damage ---- */

static bool is_corrupt(struct unlinked *u)
{
    return qcow2_rig_get(&u->rig.files, "i.qcow2", 72, 8) & Q2_INCOMPATIBLE_CORRUPT;
}

/* An image whose entries contradict its counts is marked, told of once, and written no more. */
static void assert_marked(struct unlinked *u, const char *text)
{
    unsigned changes;
    uint64_t host;

    g_assert_true(is_corrupt(u));
    g_assert_nonnull(strstr(u->rig.told->str, text));
    changes = u->rig.changes;
    g_assert_cmpint(live_reserve_take(&u->rig.image, 1, &host), ==, -EIO);
    g_assert_cmpint(live_reserve_take_table(&u->rig.image, &host), ==, -EIO);
    g_assert_cmpint(live_reserve_fill(&u->rig.image), ==, -EIO);
    give_up(u, 1, 2);
    g_assert_cmpint(count_down(&u->rig), ==, -EIO);
    g_assert_cmpint(live_reserve_return(&u->rig.image), ==, -EIO);
    g_assert_cmpuint(u->rig.changes, ==, changes);
    g_assert_cmpuint(strchr(u->rig.told->str, '\n') - u->rig.told->str, ==, u->rig.told->len - 1);
    space_rig_leaks(&u->rig, false);
}

static void assert_damaged(struct unlinked *u, const char *text)
{
    g_assert_false(is_corrupt(u));
    g_assert_cmpint(count_down(&u->rig), ==, -EIO);
    assert_marked(u, text);
}

static void test_once_too_often(void)
{
    struct unlinked u;

    if (!begin(&u, ""))
        return;
    give_up(&u, 0, 1);
    give_up(&u, 0, 1);
    assert_damaged(&u, "is counted 0 times");
    space_rig_end(&u.rig);
}

/* Where the reserve is, no entry led that was there before: what it would take away is another's. */
static void test_behind_the_end(void)
{
    struct unlinked u;
    uint64_t host;

    if (!begin(&u, ""))
        return;
    g_assert_cmpint(space_rig_take(&u.rig, 1, &host), ==, 1);
    live_reserve_give_up(&u.rig.image, host - 512, 1024);
    assert_marked(&u, "behind the end of the file");
    space_rig_end(&u.rig);
}

static void test_table(void)
{
    struct unlinked u;

    if (!begin(&u, ""))
        return;
    live_reserve_give_up(&u.rig.image, u.table, CLUSTER);
    assert_damaged(&u, "which has a table");
    space_rig_end(&u.rig);
}

/* ---- memory ---- */

static void test_many(void)
{
    struct unlinked u;

    if (!begin(&u, ""))
        return;
    for (unsigned i = 0; i < 100000; i++)
        give_up(&u, 0, 1);
    g_assert_cmpstr(u.rig.told->str, ==, "");
    give_up(&u, 0, 10);
    g_assert_nonnull(strstr(u.rig.told->str, "a leak"));
    g_assert_cmpuint(strchr(u.rig.told->str, '\n') - u.rig.told->str, ==, u.rig.told->len - 1);
    g_assert_cmpuint(live_reserve_given_up(&u.rig.image), ==, 100000);
    space_rig_end(&u.rig);
}

static void add_kinds(const char *name, size_t n, void (*test)(gconstpointer))
{
    for (size_t i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("/down/%s/%s", name, i ? kinds[i] : "plain");

        g_test_add_data_func(path, kinds[i], test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_kinds("all", G_N_ELEMENTS(kinds), test_all);
    add_kinds("first-ones", 3, test_first_ones);
    add_kinds("failures", 3, test_failures);
    g_test_add_func("/down/no-holes", test_no_holes);
    g_test_add_func("/down/drop", test_drop);
    g_test_add_func("/down/once-too-often", test_once_too_often);
    g_test_add_func("/down/behind-the-end", test_behind_the_end);
    g_test_add_func("/down/table", test_table);
    g_test_add_func("/down/many", test_many);
    return g_test_run();
}
