/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal when its folder fails or hangs: guests go on, or fail, as was asked for. */
#include "tests/rigs/journal-rig.h"

#include "server/state/journal-private.h"

#include <errno.h>

static struct journal_stats stats(struct journal_rig *r)
{
    struct journal_stats s;

    journal_stats(r->journal, &s);
    return s;
}

/* One fsync fails: a new file is made, with what was open and what was asked for. */
static void test_new_file(void)
{
    static const enum memory_op ops[] = {MEMORY_SYNC, MEMORY_WRITE};

    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++)
        for (int keep = 0; keep < 2; keep++) {
            struct journal_rig *r = journal_rig_new(0, 0, !keep);
            unsigned renames = memory_count(r->storage, MEMORY_RENAME);

            g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
            memory_fail(r->storage, ops[i], 1, -EIO);
            g_assert_cmpint(rig_write_region(r, 0, 2), ==, 0);
            g_assert_cmpuint(memory_count(r->storage, MEMORY_RENAME) - renames, ==, 1);
            g_assert_true(rig_is_open_durably(r, 1));
            g_assert_true(rig_is_open_durably(r, 2));
            g_assert_cmpint(atomic_load(&r->failed), ==, 0);
            g_assert_cmpint(rig_write_region(r, 0, 3), ==, 0);
            g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
            journal_rig_free(r);
        }
}

/* Nothing works: the guest goes on after the store was told, once. */
static void test_keep_guest(void)
{
    static const enum memory_op ops[] = {MEMORY_SYNC, MEMORY_WRITE};

    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++) {
        struct journal_rig *r = journal_rig_new(0, 0, false);
        g_autoptr(GError) err = NULL;

        memory_fail(r->storage, ops[i], -1, -EIO);
        for (unsigned k = 0; k < 5; k++) {
            g_assert_cmpint(rig_write_region(r, 0, k), ==, 0);
            g_assert_cmpint(atomic_load(&r->failed), ==, 1);
        }
        g_assert_cmpint(journal_close_all(r->journal, &err), <, 0);
        g_assert_nonnull(g_strstr_len(err->message, -1, "the journal has failed: cannot"));
        g_clear_error(&err);
        g_assert_cmpint(journal_revive(r->journal, &err), <, 0);
        g_clear_error(&err);
        /* When it works again, all that was written meanwhile is open in the new file. */
        memory_fail(r->storage, ops[i], 0, 0);
        g_assert_cmpint(journal_revive(r->journal, &err), ==, 0);
        for (unsigned k = 0; k < 5; k++)
            g_assert_true(rig_is_open_durably(r, k));
        g_assert_cmpint(rig_write_region(r, 0, 9), ==, 0);
        g_assert_true(rig_is_open_durably(r, 9));
        g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
        /* A second failure is told again. */
        memory_fail(r->storage, ops[i], -1, -EIO);
        g_assert_cmpint(rig_write_region(r, 0, 9), ==, 0);
        g_assert_cmpint(atomic_load(&r->failed), ==, 2);
        journal_rig_free(r);
    }
}

/* Each step of making the new file may fail. */
static void test_new_file_fails(void)
{
    static const enum memory_op ops[] = {MEMORY_OPEN, MEMORY_RENAME, MEMORY_SYNC_NAMES};

    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++) {
        struct journal_rig *r = journal_rig_new(0, 0, false);

        g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
        memory_fail(r->storage, MEMORY_SYNC, 1, -EIO);
        memory_fail(r->storage, ops[i], -1, -ENOSPC);
        g_assert_cmpint(rig_write_region(r, 0, 2), ==, 0);
        g_assert_cmpint(atomic_load(&r->failed), ==, 1);
        g_assert_true(rig_is_open_durably(r, 1));
        memory_fail(r->storage, ops[i], 0, 0);
        g_assert_cmpint(journal_revive(r->journal, NULL), ==, 0);
        g_assert_true(rig_is_open_durably(r, 2));
        journal_rig_free(r);
    }
}

/* The guest's write fails, and works again when the folder does. */
static void test_break_guest_write(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, true);
    unsigned opens, phase;

    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    memory_fail(r->storage, MEMORY_SYNC, -1, -EIO);
    g_assert_cmpint(rig_write_region(r, 0, 2), ==, -EIO);
    g_assert_cmpint(atomic_load(&r->lines[0].inside[0]), ==, 0);
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0); /* it is open */
    /* At most one attempt a second. */
    opens = memory_count(r->storage, MEMORY_OPEN);
    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpint(rig_enter(r, 0, 2, &phase), ==, -EIO);
    g_assert_cmpuint(memory_count(r->storage, MEMORY_OPEN) - opens, <=, 5);
    memory_fail(r->storage, MEMORY_SYNC, 0, 0);
    while (rig_write_region(r, 0, 2) < 0)
        g_usleep(1000);
    g_assert_true(rig_is_open_durably(r, 1));
    g_assert_true(rig_is_open_durably(r, 2));
    g_assert_cmpint(atomic_load(&r->failed), ==, 0);
    g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
    journal_rig_free(r);
}

/* I/O that does not come back: a writer waits as long as it was told, and goes on. */
static void test_hang(void)
{
    struct journal_rig *r = journal_rig_new(0, 50, false);
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    g_autoptr(GError) err = NULL;
    int64_t begin;

    memory_hold(r->storage, MEMORY_SYNC);
    begin = g_get_monotonic_time();
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - begin, >=, 50000);
    g_assert_cmpint(atomic_load(&r->failed), ==, 1);
    for (unsigned i = 2; i < 1000; i++)
        g_assert_cmpint(rig_write_region(r, 0, i), ==, 0); /* without any wait */
    g_assert_cmpint(journal_revive(r->journal, &err), <, 0);
    g_assert_cmpint(journal_close_all(r->journal, NULL), <, 0);
    memory_release(r->storage);
    rig_set_patience(r, 60000);
    g_assert_cmpint(journal_revive(r->journal, NULL), ==, 0);
    g_assert_cmpuint(rig_check_power_loss(r, rand), >=, 999);
    g_assert_cmpint(journal_close_all(r->journal, NULL), ==, 0);
    journal_rig_free(r);
}

static void *revive(void *opaque)
{
    struct journal_rig *r = opaque;

    g_assert_cmpint(journal_revive(r->journal, NULL), ==, 0);
    return NULL;
}

/* Two ask for the same attempt: the second one while it is under way. */
static void test_revive_twice(void)
{
    struct journal_rig *r = journal_rig_new(0, 0, false);
    GThread *first, *second;
    uint64_t asked;

    memory_fail(r->storage, MEMORY_SYNC, 2, -EIO);
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    g_assert_cmpint(atomic_load(&r->failed), ==, 1);
    memory_hold(r->storage, MEMORY_SYNC);
    first = g_thread_new("first", revive, r);
    memory_wait_held(r->storage);
    second = g_thread_new("second", revive, r);
    do {
        g_thread_yield();
        pthread_mutex_lock(&r->journal->lock);
        asked = r->journal->revive_asked;
        pthread_mutex_unlock(&r->journal->lock);
    } while (asked < 2);
    memory_release(r->storage);
    g_thread_join(first);
    g_thread_join(second);
    g_assert_true(rig_is_open_durably(r, 1));
    journal_rig_free(r);
}

static void test_hang_break(void)
{
    struct journal_rig *r = journal_rig_new(0, 50, true);

    memory_hold(r->storage, MEMORY_SYNC);
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, -EIO);
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, -EIO);
    g_assert_cmpuint(stats(r).waiting, ==, 0);
    memory_release(r->storage);
    rig_set_patience(r, 60000);
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    g_assert_true(rig_is_open_durably(r, 1));
    g_assert_cmpint(atomic_load(&r->failed), ==, 0);
    journal_rig_free(r);
}

/* The end does not wait for ever either. */
static void test_free_hangs(void)
{
    struct journal_rig *r = journal_rig_new(0, 50, false);

    memory_hold(r->storage, MEMORY_SYNC);
    g_assert_cmpint(rig_write_region(r, 0, 1), ==, 0);
    g_assert_cmpint(journal_remove_disk(r->disk), ==, 0);
    g_assert_cmpint(journal_free(r->journal), ==, -1);
    /* Its storage stays, held for ever, and so does the rig: the thread may come back. */
}

static void test_new_fails(void)
{
    struct storage *s = memory_storage_new();
    struct journal_options o = {.folder = 1, .patience_ms = 1000, .idle_ms = 1000};
    g_autoptr(GError) err = NULL;

    memory_fail(s, MEMORY_SYNC, 1, -ENOSPC);
    g_assert_null(journal_new(s, &o, &err));
    g_assert_cmpstr(
        err->message, ==,
        "state: MEMORY/intent.new: cannot write a new journal: No space left on device");
    g_clear_error(&err);
    /* What is left of it is in nobody's way. */
    {
        struct journal *j = journal_new(s, &o, &err);

        g_assert_no_error(err);
        g_assert_cmpint(journal_free(j), ==, 0);
    }
    s->ops->free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal-fail/new-file", test_new_file);
    g_test_add_func("/journal-fail/keep-guest", test_keep_guest);
    g_test_add_func("/journal-fail/new-file-fails", test_new_file_fails);
    g_test_add_func("/journal-fail/break-guest-write", test_break_guest_write);
    g_test_add_func("/journal-fail/hang", test_hang);
    g_test_add_func("/journal-fail/revive-twice", test_revive_twice);
    g_test_add_func("/journal-fail/hang-break", test_hang_break);
    g_test_add_func("/journal-fail/free-hangs", test_free_hangs);
    g_test_add_func("/journal-fail/new-fails", test_new_fails);
    return g_test_run();
}
