/* SPDX-License-Identifier: BSD-3-Clause */
/* The catalogue fails while a server uses the folder. */
#include "server/state/store-break.h"
#include "tests/rigs/failing-folder.h"
#include "tests/rigs/store-rig.h"

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

/* Wait until the catalogue has been told, or that has failed. */
static void wait_jobs(struct store_rig *r)
{
    g_assert_true(jobs_wait(r->store->jobs, 60000));
}

static void hold(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
}

/* The first sync of a transaction is that of its log's head. The second one is that of all of it:
 * if this one fails, the transaction may have happened. */
#define WHOLE_LOG 1

/* A clear of "b", with which a bitmap "new" is made, and "old" is removed. */
static int clear(struct rig_disk *d, GError **err)
{
    struct bitmap *bits = rig_bits(d), *new = rig_bits(d);
    struct state_change c[] = {rig_say(d, "b", bits), rig_say(d, "new", new),
                               rig_say(d, "old", NULL)};
    int result = rig_commit(d->rig, c, G_N_ELEMENTS(c), err);

    g_ptr_array_add(d->bits, bits);
    g_ptr_array_add(d->bits, new);
    return result;
}

static struct store_rig *start_with_bits(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL, NULL};

    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    bits[1] = rig_add(d, "old");
    rig_add(&r->disks[1], "other");
    rig_change(d, bits, 0, 1);
    return r;
}

/* A command's transaction fails, and has not happened: nothing has changed, and others work. */
static void test_catalogue(void)
{
    struct store_rig *r = start_with_bits();
    struct rig_disk *d = &r->disks[0];
    g_autoptr(GError) error = NULL;

    fail_syncs("catalogue.db");
    g_assert_cmpint(clear(d, &error), <, 0);
    g_assert_nonnull(error->message);
    fail_syncs(NULL);
    g_assert_cmpuint(d->broken->len, ==, 0);
    rig_add(d, "later");
    rig_restart(r, 2);
    g_assert_cmpuint(d->found->len, ==, 3);
    rig_expect(d, "b", 65536);
    rig_expect(d, "old", 65536);
    rig_expect(d, "later", 0);
    rig_free(r);
}

/* One sync fails, and then the storage works: the transaction is found to have happened. */
static void test_catalogue_happened(void)
{
    struct store_rig *r = start_with_bits();
    struct rig_disk *d = &r->disks[0];
    g_autoptr(GError) error = NULL;

    fail_some_syncs("catalogue.db", WHOLE_LOG, 1);
    g_assert_cmpint(clear(d, &error), ==, 0);
    g_assert_no_error(error);
    fail_syncs(NULL);
    g_assert_cmpuint(d->broken->len, ==, 0);
    rig_add(d, "later");
    for (unsigned i = 0; i < 2; i++) {
        if (i == 0)
            rig_kill(r);
        else
            rig_stop(r);
        rig_start(r, 2);
        g_assert_cmpuint(d->found->len, ==, 3);
        rig_expect(d, "b", 0);
        rig_expect(d, "new", 0);
        rig_expect(d, "later", 0);
    }
    rig_free(r);
}

/* A start removes bitmaps of no disk: with them, the catalogue could not be opened anew. */
static void test_catalogue_strays(void)
{
    struct store_rig *r = start_with_bits();
    g_autofree char *path = rig_file(r, "catalogue.db");
    g_autoptr(GError) error = NULL;
    sqlite3 *db;

    rig_stop(r);
    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "DELETE FROM disks WHERE name = 'disk1'", NULL, NULL, NULL),
                    ==, SQLITE_OK);
    sqlite3_close(db);
    rig_start(r, 1);
    fail_some_syncs("catalogue.db", WHOLE_LOG, 1);
    g_assert_cmpint(clear(&r->disks[0], &error), ==, 0);
    g_assert_no_error(error);
    fail_syncs(NULL);
    rig_free(r);
}

/* The storage goes on to fail: its outcome is not known. When it works again, commands do, too, and
 * the catalogue has nothing of the one that failed. */
static void test_catalogue_unsure(void)
{
    for (unsigned killed = 0; killed < 2; killed++) {
        struct store_rig *r = start_with_bits();
        struct rig_disk *d = &r->disks[0];
        g_autoptr(GError) error = NULL;
        g_autofree char *said = NULL;

        fail_some_syncs("catalogue.db", WHOLE_LOG, UINT_MAX);
        g_assert_cmpint(clear(d, &error), <, 0);
        g_assert_nonnull(error->message);
        said = rig_wait_broken(d);
        g_assert_nonnull(strstr(said, "the catalogue failed in the middle of a change of it"));
        g_assert_cmpint(clear(d, NULL), <, 0); /* as long as it fails */
        wait_jobs(r);
        fail_syncs(NULL);
        rig_add(d, "b"); /* a clear */
        wait_jobs(r);
        if (killed)
            rig_kill(r);
        else
            rig_stop(r);
        rig_start(r, 2);
        g_assert_cmpstr(d->recovered, ==, "exact");
        g_assert_cmpuint(d->found->len, ==, 2);
        rig_expect(d, "b", 0);
        rig_expect_inconsistent(d, "old", "the catalogue failed in the middle of a change of it");
        rig_expect(&r->disks[1], "other", 0);
        rig_free(r);
    }
}

/* The same of a transaction that breaks nothing: it has no old bits. */
static void unsure_add(bool killed)
{
    pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits;
    struct state_change c;

    rig_start(r, 1);
    pthread_mutex_lock(&held);
    jobs_post(r->store->jobs, hold, &held);
    bits = rig_bits(d);
    c = rig_say(d, "new", bits);
    fail_some_syncs("catalogue.db", WHOLE_LOG, UINT_MAX);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), <, 0);
    g_ptr_array_add(d->bits, bits);                        /* nobody records in it any more */
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0); /* no region is closed */
    if (killed) {
        pthread_mutex_unlock(&held);
        wait_jobs(r);
        g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
        fail_syncs(NULL);
        rig_kill(r);
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, <=, 1);
        if (d->found->len > 0)
            rig_expect_inconsistent(d, "new", "");
    } else {
        fail_syncs(NULL);
        pthread_mutex_unlock(&held);
        wait_jobs(r); /* no other command is needed */
        g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
        rig_kill(r);
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, ==, 0);
    }
    rig_free(r);
}

static void test_catalogue_unsure_add(void)
{
    unsure_add(false);
    unsure_add(true);
}

/* A stop cannot be committed, and its outcome is not known: memory has the bits. */
static void test_catalogue_unsure_stop(void)
{
    struct store_rig *r = start_with_bits();

    fail_some_syncs("catalogue.db", WHOLE_LOG, UINT_MAX);
    rig_stop(r);
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    rig_start(r, 2);
    g_assert_cmpstr(r->disks[0].recovered, ==, "exact");
    rig_expect(&r->disks[0], "b", 65536);
    rig_expect(&r->disks[1], "other", 0);
    rig_free(r);
}

/* ---- records ---- */

/* A bitmap "cp" with the record that names it; the record "old" becomes another one. */
static int add_with_records(struct rig_disk *d, GError **err)
{
    struct rig_text text = {.text = "new"};
    const struct state_record records[] = {{"checkpoint", "cp", rig_give_text, &text},
                                           {"checkpoint", "old", rig_give_text, &text},
                                           {"checkpoint", "gone", NULL, NULL}};
    struct bitmap *bits = rig_bits(d);
    struct state_change c = rig_say(d, "cp", bits);
    int result;

    g_ptr_array_add(d->bits, bits);
    result = rig_commit_records(d->rig, &c, 1, records, G_N_ELEMENTS(records), err);
    g_assert_cmpuint(text.asked, ==, 2);
    return result;
}

static struct store_rig *start_with_records(void)
{
    struct rig_text text = {.text = "1"};
    const struct state_record records[] = {{"checkpoint", "old", rig_give_text, &text},
                                           {"checkpoint", "gone", rig_give_text, &text}};
    struct store_rig *r = rig_new();

    rig_start(r, 1);
    g_assert_cmpint(rig_commit_records(r, NULL, 0, records, G_N_ELEMENTS(records), NULL), ==, 0);
    return r;
}

/* What a transaction that has not happened would have left is nowhere: not in memory, not after a
 * stop, a crash, or another transaction. */
static void test_records_as_before(void)
{
    for (unsigned unsure = 0; unsure < 2; unsure++) {
        struct store_rig *r = start_with_records();
        struct rig_disk *d = &r->disks[0];

        fail_some_syncs("catalogue.db", unsure ? WHOLE_LOG : 0, UINT_MAX);
        g_assert_cmpint(add_with_records(d, NULL), <, 0);
        rig_expect_records(r, "checkpoint", "old=1 gone=1 ");
        fail_syncs(NULL);
        rig_add(d, "later");
        wait_jobs(r);
        rig_kill(r);
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, ==, 1);
        rig_expect_records(r, "checkpoint", "old=1 gone=1 ");
        g_assert_cmpint(add_with_records(d, NULL), ==, 0);
        rig_restart(r, 1);
        rig_expect(d, "cp", 0);
        rig_expect_records(r, "checkpoint", "old=new cp=new ");
        rig_free(r);
    }
}

/* It is found to have happened. */
static void test_records_happened(void)
{
    struct store_rig *r = start_with_records();
    struct rig_disk *d = &r->disks[0];

    fail_some_syncs("catalogue.db", WHOLE_LOG, 1);
    g_assert_cmpint(add_with_records(d, NULL), ==, 0);
    fail_syncs(NULL);
    rig_expect_records(r, "checkpoint", "old=new cp=new ");
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "cp", 0);
    rig_expect_records(r, "checkpoint", "old=new cp=new ");
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-failure/catalogue/as-before", test_catalogue);
    g_test_add_func("/store-failure/catalogue/happened", test_catalogue_happened);
    g_test_add_func("/store-failure/catalogue/strays", test_catalogue_strays);
    g_test_add_func("/store-failure/catalogue/unsure", test_catalogue_unsure);
    g_test_add_func("/store-failure/catalogue/unsure-add", test_catalogue_unsure_add);
    g_test_add_func("/store-failure/catalogue/unsure-stop", test_catalogue_unsure_stop);
    g_test_add_func("/store-failure/catalogue/records-as-before", test_records_as_before);
    g_test_add_func("/store-failure/catalogue/records-happened", test_records_happened);
    return g_test_run();
}
