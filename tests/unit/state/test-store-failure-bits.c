/* SPDX-License-Identifier: BSD-3-Clause */
/* Bits fail while a server uses the folder: in memory, and in their files. */
#include "server/state/store-break.h"
#include "server/state/store-renew.h"
#include "tests/rigs/failing-folder.h"
#include "tests/rigs/store-rig.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* Wait until the catalogue has been told, or that has failed. */
static void wait_jobs(struct store_rig *r)
{
    g_assert_true(jobs_wait(r->store->jobs, 60000));
}

static void test_bits_truncated(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL}, *again;
    g_autofree char *file = NULL;
    g_autofree char *said = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    file = rig_memory_bits(r);
    g_assert_cmpint(truncate(file, 0), ==, 0);
    rig_change(d, bits, 0, 1); /* the guest goes on */
    said = rig_wait_broken(d);
    g_assert_nonnull(strstr(said, "one: somebody has cut short the file"));
    again = rig_add(d, "b"); /* a clear */
    bits[0] = again;
    rig_change(d, bits, MIB, 1);
    rig_restart(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

static void test_bits_truncated_and_stopped(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *file = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    file = rig_memory_bits(r);
    g_assert_cmpint(truncate(file, 0), ==, 0);
    rig_change(d, bits, 0, 1);
    g_free(rig_wait_broken(d));
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "somebody has cut short the file");
    rig_free(r);
}

static void hold(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
}

/* A sync does not wait until somebody has come to say that the bits are lost. */
static void test_bits_truncated_and_synced(void)
{
    pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *file = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    file = rig_memory_bits(r);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    pthread_mutex_lock(&held);
    jobs_post(r->store->jobs, hold, &held);
    g_assert_cmpint(truncate(file, 0), ==, 0);
    rig_change(d, bits, 0, 1);
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    g_assert_cmpuint(d->broken->len, ==, 1);
    pthread_mutex_unlock(&held);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "somebody has cut short the file");
    rig_free(r);
}

/* The file was looked at, and is cut short before its bits are read. */
static void test_bits_truncated_at_attach(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    rig_open(r);
    make_reads(READS_CUT);
    rig_attach(d);
    make_reads(READS_WORK);
    rig_expect_inconsistent(d, "b", "it ends too early");
    g_assert_cmpint(store_start(r->store, NULL), ==, 0);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "it ends too early");
    rig_free(r);
}

/* After a power loss a page of the bits cannot be read. */
static void test_bits_unreadable(void)
{
    struct store_rig *r = rig_new_many(1, 65536 * MIB);
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    make_reads(READS_FAIL);
    rig_open(r);
    make_reads(READS_WORK);
    rig_attach(d);
    rig_expect_inconsistent(d, "b", "read: Input/output error");
    g_assert_cmpint(store_start(r->store, NULL), ==, 0);
    rig_free(r);
}

static int disable(struct store_rig *r, GError **err)
{
    struct state_change c = rig_say(&r->disks[0], "b", r->disks[0].bits->pdata[0]);

    c.recording = false;
    return rig_commit(r, &c, 1, err);
}

/* Bits cannot be synced when a bitmap is disabled, which fails, and works when there is a new file. */
static void test_bits_sync(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *old = NULL, *new = NULL;
    g_autoptr(GError) error = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    old = rig_bits_file(r);
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(disable(r, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "its bits could not be written"));
    wait_jobs(r); /* there was no new file either */
    fail_syncs(NULL);
    g_assert_cmpint(disable(r, NULL), <, 0); /* the old file is never synced again */
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    rig_change(d, bits, MIB, 1);
    store_renew(r->store);
    new = rig_bits_file(r);
    g_assert_cmpstr(old, !=, new);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    g_assert_cmpint(disable(r, NULL), ==, 0);
    g_assert_cmpuint(d->broken->len, ==, 0);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 2 * 65536);
    g_assert_cmpstr(d->recovered, ==, "exact");
    rig_free(r);
}

/* A bitmap that has a new file is exact after a crash, too. */
static void test_bits_renewed(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    fail_syncs(NULL);
    wait_jobs(r);
    store_renew(r->store);
    rig_change(d, bits, MIB, 1);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 2 * 65536);
    g_assert_cmpstr(d->recovered, ==, "exact");
    rig_free(r);
}

/* A new file gets stuck after `prepare` has synced it, and before there is a row that names it. */
static void test_bits_stuck_before_commit(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct state_transaction *t;
    struct state_change c;

    rig_start(r, 1);
    bits[0] = rig_bits(d);
    g_ptr_array_add(d->bits, bits[0]);
    c = rig_say(d, "b", bits[0]);
    g_assert_cmpint(store_ops.prepare(r->store, &c, 1, &t, NULL), ==, 0);
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    fail_syncs(NULL);
    wait_jobs(r); /* there is no row yet */
    g_assert_cmpint(store_ops.commit(r->store, t, NULL), ==, 0);
    store_ops.end(r->store, t, true);
    wait_jobs(r);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    rig_restart(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

/* Whoever finds that a file is stuck cannot know whether the mark for the tick is still there. */
static void test_bits_stuck_again(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    wait_jobs(r);
    r->store->any_stuck = false; /* as store_renew does before it looks */
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    g_assert_true(r->store->any_stuck);
    fail_syncs(NULL);
    rig_free(r);
}

/* Bits cannot be synced at the end: the next start has them all the same. */
static void sync_fails_at_end(bool kill, bool power)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    r->o.power = power;
    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    rig_add(&r->disks[1], "other");
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    rig_change(d, bits, MIB, 1);
    if (kill) {
        wait_jobs(r);
        rig_kill(r);
    } else {
        rig_stop(r);
    }
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    rig_start(r, 2);
    rig_expect(d, "b", 2 * 65536);
    rig_expect(&r->disks[1], "other", 0);
    rig_add(d, "c");
    rig_stop(r);
    g_assert_true(r->in_order);
    rig_free(r);
}

static void test_bits_sync_at_end(void)
{
    for (int k = 0; k < 4; k++)
        sync_fails_at_end(k & 1, k & 2);
}

/* Only the old file fails at the end. */
static void test_bits_sealed_anew(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *old = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    old = rig_bits_file(r);
    rig_change(d, bits, 0, 1);
    fail_syncs(strrchr(old, '/'));
    rig_stop(r);
    g_assert_true(r->in_order);
    fail_syncs(NULL);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

/* Somebody damages the folder's file while the server runs: the memory has what it had. */
static void test_bits_damaged(void)
{
    for (off_t length = 0; length <= 4096; length += 4096) {
        struct store_rig *r = rig_new();
        struct rig_disk *d = &r->disks[0];
        struct bitmap *bits[] = {NULL, NULL};
        g_autofree char *file = NULL;

        rig_start(r, 1);
        bits[0] = rig_add(d, "b");
        rig_change(d, bits, 0, 1);
        g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
        file = rig_bits_file(r);
        g_assert_cmpint(truncate(file, length), ==, 0);
        if (length)
            g_assert_cmpint(truncate(file, 8192), ==, 0); /* zeroes */
        rig_restart(r, 1);
        g_assert_cmpuint(d->broken->len, ==, 0);
        rig_expect(d, "b", 65536);
        rig_free(r);
    }
}

/* One of many new files cannot be synced: the command fails, whichever it is, and nothing is left. */
static void test_bits_one_of_many(void)
{
    enum { MANY = 20 };

    for (unsigned which = 0; which < MANY; which += 19) {
        struct store_rig *r = rig_new_many(MANY, 64 * MIB);
        struct state_change c[MANY];
        struct state_transaction *t = NULL;
        g_autoptr(GError) error = NULL;

        rig_start(r, MANY);
        for (unsigned i = 0; i < MANY; i++) {
            struct bitmap *bits = rig_bits(&r->disks[i]);

            g_ptr_array_add(r->disks[i].bits, bits);
            c[i] = rig_say(&r->disks[i], "b", bits);
        }
        fail_some_syncs("/bits/", which, 1);
        g_assert_cmpint(store_ops.prepare(r->store, c, MANY, &t, &error), <, 0);
        g_assert_null(t);
        g_assert_nonnull(strstr(error->message, "sync: Input/output error"));
        fail_syncs(NULL);
        rig_restart(r, MANY);
        for (unsigned i = 0; i < MANY; i++)
            g_assert_cmpuint(r->disks[i].found->len, ==, 0);
        g_assert_cmpuint(rig_bits_files(r), ==, 0);
        rig_free(r);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-failure/bits/truncated", test_bits_truncated);
    g_test_add_func("/store-failure/bits/stopped", test_bits_truncated_and_stopped);
    g_test_add_func("/store-failure/bits/truncated-and-synced", test_bits_truncated_and_synced);
    g_test_add_func("/store-failure/bits/truncated-at-attach", test_bits_truncated_at_attach);
    g_test_add_func("/store-failure/bits/unreadable", test_bits_unreadable);
    g_test_add_func("/store-failure/bits/sync", test_bits_sync);
    g_test_add_func("/store-failure/bits/renewed", test_bits_renewed);
    g_test_add_func("/store-failure/bits/stuck-before-commit", test_bits_stuck_before_commit);
    g_test_add_func("/store-failure/bits/stuck-again", test_bits_stuck_again);
    g_test_add_func("/store-failure/bits/sync-at-end", test_bits_sync_at_end);
    g_test_add_func("/store-failure/bits/sealed-anew", test_bits_sealed_anew);
    g_test_add_func("/store-failure/bits/damaged", test_bits_damaged);
    g_test_add_func("/store-failure/bits/one-of-many", test_bits_one_of_many);
    return g_test_run();
}
