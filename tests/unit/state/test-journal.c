/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal while writers come and go: batches, halves, closing. Failures:
 * test-journal-fail.c. */
#include "tests/rigs/journal-rig.h"

#include "common/state/folder.h"
#include "common/state/journal-scan.h"
#include "server/state/journal-private.h"
#include "server/state/journal-ranges.h"

#include <errno.h>

/* ---- writers in threads ---- */

struct writer {
    struct journal_rig *rig;
    unsigned line;
    uint64_t region;
};

static void *write_one(void *opaque)
{
    struct writer *w = opaque;

    g_assert_cmpint(rig_write_region(w->rig, w->line, w->region), ==, 0);
    return NULL;
}

/* Wait until `n` writers wait. */
static void wait_for_asks(struct journal_rig *r, unsigned n)
{
    struct journal_stats s;

    do {
        g_thread_yield();
        journal_stats(r->journal, &s);
    } while (s.waiting < n);
}

static struct journal_stats stats(struct journal_rig *r)
{
    struct journal_stats s;

    journal_stats(r->journal, &s);
    return s;
}

/* While one sync takes its time, 16 others come; they share the next one. */
static void test_group_commit(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    struct writer w[17];
    GThread *t[17];
    unsigned syncs = memory_count(r->storage, MEMORY_SYNC);

    memory_hold(r->storage, MEMORY_SYNC);
    for (unsigned i = 0; i < 17; i++) {
        w[i] = (struct writer){r, i, i * 7};
        t[i] = g_thread_new("writer", write_one, &w[i]);
        if (i == 0)
            memory_wait_held(r->storage);
    }
    wait_for_asks(r, 17);
    for (unsigned i = 0; i < 17; i++)
        g_assert_false(cover_is_open(&r->cover, i * 7 * REGION, 1));
    memory_release(r->storage);
    for (unsigned i = 0; i < 17; i++)
        g_thread_join(t[i]);
    g_assert_cmpuint(memory_count(r->storage, MEMORY_SYNC) - syncs, ==, 2);
    g_assert_cmpuint(stats(r).batches, ==, 2);
    g_assert_cmpuint(stats(r).opened, ==, 17);
    for (unsigned i = 0; i < 17; i++)
        g_assert_true(rig_is_open_durably(r, i * 7));
    journal_rig_free(r);
}

/* A second write costs nothing. */
static void test_open_once(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    unsigned syncs;

    g_assert_cmpint(rig_write_region(r, 0, 5), ==, 0);
    syncs = memory_count(r->storage, MEMORY_SYNC);
    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpint(rig_write_region(r, i % RIG_LINES, 5), ==, 0);
    g_assert_cmpuint(memory_count(r->storage, MEMORY_SYNC), ==, syncs);
    journal_rig_free(r);
}

/* More batches than a half has room for, several times. */
static void test_halves(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);

    for (unsigned i = 0; i < 3 * JOURNAL_SECTORS / 2; i++) {
        g_assert_cmpint(rig_write_region(r, 0, i % 50), ==, 0);
        g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
        if (i % 500 == 0)
            rig_check_power_loss(r, rand);
    }
    g_assert_cmpint(rig_write_region(r, 0, 7), ==, 0);
    g_assert_cmpuint(rig_check_power_loss(r, rand), >=, 1);
    g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
    g_assert_cmpuint(rig_check_power_loss(r, rand), ==, 0);
    journal_rig_free(r);
}

/* ---- closing ---- */

static void test_close_all(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    g_autoptr(GError) err = NULL;
    unsigned phase;

    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    g_assert_cmpint(rig_write_region(r, 0, 3), ==, 0);
    g_assert_cmpint(journal_close_all(r->journal, &err), ==, 0);
    g_assert_false(rig_is_open_durably(r, 1));
    g_assert_cmpuint(stats(r).open, ==, 0);
    g_assert_cmpuint(atomic_load(&r->bit_syncs), ==, 1);
    /* and open again */
    g_assert_cmpint(rig_enter(r, 0, 1, &phase), ==, 0);
    g_assert_true(rig_is_open_durably(r, 1));
    rig_leave(r, 0, phase);
    journal_rig_free(r);
}

/* Bits that cannot be synced leave regions open. */
static void test_bits_fail(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    atomic_store(&r->sync_result, -1);
    g_assert_cmpint(journal_close_all(r->journal, &err), <, 0);
    g_assert_cmpstr(err->message, ==, "state: MEMORY: 1 regions stay open");
    g_assert_true(rig_is_open_durably(r, 1));
    g_assert_true(cover_is_open(&r->cover, REGION, 1));
    atomic_store(&r->sync_result, 0);
    g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
    journal_rig_free(r);
}

/* A writer that hangs in its plugin keeps the regions open in the file, and holds up nobody. Who
 * needs one of them has it without a sync. */
static void test_writer_hangs(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    unsigned phase, syncs;

    g_assert_cmpint(rig_enter(r, 0, 1, &phase), ==, 0);
    g_assert_cmpint(rig_write_region(r, 1, 2), ==, 0);
    rig_set_patience(r, 200);
    g_assert_cmpint(journal_close_all(r->journal, NULL), <, 0);
    rig_set_patience(r, 60000);
    g_assert_true(rig_is_open_durably(r, 1));
    g_assert_cmpuint(atomic_load(&r->bit_syncs), ==, 0);
    g_assert_false(cover_is_open(&r->cover, 2 * REGION, 1));
    syncs = memory_count(r->storage, MEMORY_SYNC);
    g_assert_cmpint(rig_write_region(r, 1, 2), ==, 0);
    g_assert_cmpuint(memory_count(r->storage, MEMORY_SYNC), ==, syncs);
    g_assert_cmpint(rig_write_region(r, 1, 9), ==, 0); /* a new one */
    rig_leave(r, 0, phase);
    g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
    journal_rig_free(r);
}

/* Regions that nobody uses are closed by themselves, and others are not. */
static void test_idle(void)
{
    struct journal_rig *r = journal_rig_new(20, 0, false);

    for (unsigned i = 0; i < 10; i++)
        g_assert_cmpint(rig_write_region(r, 0, i), ==, 0);
    while (stats(r).open > 1)
        g_assert_cmpint(rig_write_region(r, 0, 4), ==, 0);
    while (stats(r).open > 0)
        g_usleep(100);
    g_assert_false(rig_is_open_durably(r, 4));
    journal_rig_free(r);
}

/* What a disk has left open when it goes stays open in the file, and is taken over when it comes
 * again. */
static void test_disk_comes_again(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    struct journal_disk_options o = r->disk_options, o2 = o;
    struct journal_disk *other;

    o2.id++;
    g_assert_cmpint(rig_write_region(r, 0, 11), ==, 0);
    g_assert_cmpint(journal_remove_disk(r->disk), ==, 0);
    g_assert_null(r->cover.regions);
    g_assert_true(rig_is_open_durably(r, 11));
    g_assert_cmpint(journal_close_all(r->journal, NULL), <, 0);
    other = journal_add_disk(r->journal, &o2, NULL);
    memory_fail(r->storage, MEMORY_SYNC, 1, -EIO); /* so that there is a new snapshot */
    g_assert_cmpint(rig_write_region(r, 0, 12), ==, 0);
    g_assert_true(rig_is_open_durably(r, 11));
    g_assert_cmpint(journal_close_all(r->journal, NULL), <, 0);
    g_assert_cmpint(journal_remove_disk(other), ==, 0);
    r->disk = journal_add_disk(r->journal, &o, NULL);
    g_assert_cmpuint(stats(r).open, ==, 1);
    g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
    g_assert_false(rig_is_open_durably(r, 11));
    journal_rig_free(r);
}

/* ---- storms ---- */

/* A journal whose syncs take a second, as it believes. */
static void pretend_slow_syncs(struct journal_rig *r)
{
    pthread_mutex_lock(&r->journal->lock);
    r->journal->sync_us = 1000 * G_USEC_PER_SEC;
    pthread_mutex_unlock(&r->journal->lock);
}

static unsigned level(struct journal_rig *r)
{
    unsigned found;

    pthread_mutex_lock(&r->journal->lock);
    found = r->disk->storm.level;
    pthread_mutex_unlock(&r->journal->lock);
    return found;
}

/* First touches all over a disk need few syncs: after each four of them, four times as many regions
 * are opened at once. */
static void do_storm(bool ascending)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    unsigned at = 0;

    for (unsigned i = 0; i < RIG_REGIONS; i++) {
        pretend_slow_syncs(r);
        at = ascending ? i : (at + 1229) % RIG_REGIONS; /* all of them, in another order */
        g_assert_cmpint(rig_write_region(r, 0, at), ==, 0);
    }
    g_assert_cmpuint(stats(r).batches, <=, 50);
    g_assert_cmpuint(stats(r).open, <=, 4 * RIG_REGIONS);
    journal_rig_free(r);
}

static void test_storm(void)
{
    do_storm(false);
    do_storm(true);
}

/* When it is over, regions are opened one by one again. */
static void test_calm(void)
{
    struct journal_rig *r = journal_rig_new(20, 0, false);

    for (unsigned i = 0; i < 4; i++) {
        pretend_slow_syncs(r);
        g_assert_cmpint(rig_write_region(r, 0, i * 100), ==, 0);
    }
    while (level(r) > 0) {
        pthread_mutex_lock(&r->journal->lock);
        r->journal->sync_us = 0; /* the time that it would take is not waited for */
        pthread_mutex_unlock(&r->journal->lock);
        g_usleep(100);
    }
    while (stats(r).open > 0)
        g_usleep(100);
    g_assert_cmpint(rig_write_region(r, 0, 1000), ==, 0);
    g_assert_true(rig_is_open_durably(r, 1000));
    g_assert_false(rig_is_open_durably(r, 1001));
    journal_rig_free(r);
}

static void test_storm_rule(void)
{
    struct storm s = {.since = 1000000};
    uint64_t first = 100, last = 101;
    int64_t now = 1000000;

    /* A batch of 1 ms every 40 ms is less than a 32nd: no storm. */
    for (unsigned i = 0; i < 1000; i++)
        storm_batch(&s, now += 40000, 1000);
    g_assert_cmpuint(s.level, ==, 0);
    /* One every 2 ms is. */
    for (unsigned i = 0; i < 12; i++)
        storm_batch(&s, now += 2000, 1000);
    g_assert_cmpuint(s.level, ==, 2);
    storm_widen(&s, &first, &last);
    g_assert_cmpuint(first, ==, 96);
    g_assert_cmpuint(last, ==, 111);
    first = last = 2;
    s.highest = 0;
    storm_widen(&s, &first, &last);
    g_assert_cmpuint(first, ==, 0);
    g_assert_cmpuint(last, ==, 3);
    /* It falls, level by level, and no further. */
    storm_look(&s, now += 5000000, 1000);
    g_assert_cmpuint(s.level, ==, 1);
    storm_look(&s, now += 5000000, 1000);
    storm_look(&s, now += 5000000, 1000);
    g_assert_cmpuint(s.level, ==, 0);
    for (unsigned i = 0; i < 1000; i++)
        storm_batch(&s, now, 1000);
    g_assert_cmpuint(s.level, ==, 13);
    first = last = COVER_REGIONS / 2;
    storm_widen(&s, &first, &last);
    g_assert_cmpuint(first, ==, 0);
    g_assert_cmpuint(last, ==, COVER_REGIONS - 1);
}

/* ---- the table ---- */

/* A region is looked at while a batch is synced that opens it and its neighbour. It is open after
 * that, and is not closed behind the writers' backs. */
static void test_looked_at_while_opened(void)
{
    struct region_table t;
    GArray *entries = ranges_new();

    g_assert_cmpint(table_init(&t), ==, 0);
    table_log(&t, 5, 5);
    table_open(&t, 5, 5);
    table_log(&t, 5, 6);
    table_look(&t, false, false);
    g_assert_cmpuint(table_look(&t, false, false), ==, 1);
    table_open(&t, 5, 6);
    g_assert_cmpuint(table_take_closing(&t, RIG_DISK, entries), ==, 0);
    table_append_logged(&t, RIG_DISK, entries);
    g_assert_cmpuint(entries->len, ==, 1);
    g_assert_cmpuint(g_array_index(entries, struct journal_entry, 0).count, ==, 2);
    g_array_free(entries, TRUE);
    table_destroy(&t);
}

/* ---- ranges ---- */

static void test_squeeze(void)
{
    GArray *all = ranges_new();
    struct journal_entry *e;

    for (unsigned i = 0; i < 200; i++) {
        struct journal_entry one = {1 + i % 2, (uint64_t)i * i, 1 + i % 3, true};

        g_array_append_val(all, one);
    }
    ranges_join(all);
    ranges_squeeze(all, 50);
    g_assert_cmpuint(all->len, <=, 50);
    g_assert_cmpuint(all->len, >=, 45);
    for (uint64_t i = 0; i < 200; i++) {
        bool found = false;

        for (guint k = 0; k < all->len && !found; k++) {
            e = &g_array_index(all, struct journal_entry, k);
            found = e->disk == (int64_t)(1 + i % 2) && e->first <= i * i &&
                    i * i + 1 + i % 3 <= e->first + e->count;
        }
        g_assert_true(found);
    }
    ranges_squeeze(all, 1);
    g_assert_cmpuint(all->len, ==, 2); /* one for each disk */
    g_array_free(all, TRUE);
}

/* A disk with every second region open makes a snapshot too large: it is squeezed. */
static void test_large_snapshot(void)
{
    GArray *open = ranges_new(), *found;
    struct storage *s = memory_storage_new();
    g_autoptr(GError) err = NULL;
    struct journal_file *f;
    const char *doing;

    for (uint64_t i = 0; i < 100000; i++) {
        struct journal_entry e = {1, 2 * i, 1, true};

        g_array_append_val(open, e);
    }
    g_assert_cmpint(journal_file_make(s, RIG_FOLDER, open, &f, &doing), ==, 0);
    g_assert_true(journal_file_fits(f, JOURNAL_SECTORS / 2 * JOURNAL_CAPACITY));
    found = journal_scan(s, RIG_FOLDER, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(found->len, ==, 1);
    g_assert_cmpuint(g_array_index(found, struct journal_entry, 0).count, ==, 199999);
    g_array_free(found, TRUE);
    g_array_free(open, TRUE);
    journal_file_close(f);
    s->ops->free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal/group-commit", test_group_commit);
    g_test_add_func("/journal/open-once", test_open_once);
    g_test_add_func("/journal/halves", test_halves);
    g_test_add_func("/journal/close-all", test_close_all);
    g_test_add_func("/journal/bits-fail", test_bits_fail);
    g_test_add_func("/journal/writer-hangs", test_writer_hangs);
    g_test_add_func("/journal/idle", test_idle);
    g_test_add_func("/journal/disk-comes-again", test_disk_comes_again);
    g_test_add_func("/journal/storm", test_storm);
    g_test_add_func("/journal/calm", test_calm);
    g_test_add_func("/journal/storm-rule", test_storm_rule);
    g_test_add_func("/journal/looked-at-while-opened", test_looked_at_while_opened);
    g_test_add_func("/journal/squeeze", test_squeeze);
    g_test_add_func("/journal/large-snapshot", test_large_snapshot);
    return g_test_run();
}
