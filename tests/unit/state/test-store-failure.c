/* SPDX-License-Identifier: BSD-3-Clause */
/* A folder that fails while a server uses it: its journal, its start, all of it. */
#include "common/state/note.h"
#include "server/state/store-break.h"
#include "tests/rigs/failing-folder.h"
#include "tests/rigs/store-rig.h"

#include <string.h>

/* Wait until the catalogue has been told, or that has failed. */
static void wait_jobs(struct store_rig *r)
{
    g_assert_true(jobs_wait(r->store->jobs, 60000));
}

/* The journal fails, and the catalogue works: the bitmaps are inconsistent, and can be cleared. */
static void test_journal(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *said = NULL;

    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    rig_add(&r->disks[1], "other");
    fail_syncs("/intent");
    rig_change(d, bits, 0, 1); /* goes on */
    said = rig_wait_broken(d);
    g_assert_nonnull(strstr(said, "all: the journal of the state folder failed: "));
    g_free(rig_wait_broken(&r->disks[1]));
    fail_syncs(NULL);
    wait_jobs(r);
    rig_kill(r);
    rig_start(r, 2);
    rig_expect_inconsistent(d, "b", "the journal of the state folder failed");
    rig_expect_inconsistent(&r->disks[1], "other", "the journal of the state folder failed");
    bits[0] = rig_add(d, "b"); /* a clear */
    rig_change(d, bits, 8 * MIB, 1);
    rig_kill(r);
    rig_start(r, 2);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

/* It works again when a bitmap is cleared. */
static void test_journal_revived(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct state_change c;
    g_autoptr(GError) error = NULL;
    struct bitmap *new;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    fail_syncs("/intent");
    rig_change(d, bits, 0, 1);
    g_free(rig_wait_broken(d));
    new = rig_bits(d);
    c = rig_say(d, "b", new);
    g_assert_cmpint(rig_commit(r, &c, 1, &error), <, 0); /* not yet */
    fail_syncs(NULL);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    g_ptr_array_add(d->bits, new);
    bits[0] = new;
    rig_change(d, bits, 8 * MIB, 1);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    rig_start(r, 1);
    /* The regions of both changes: the first one was made without a journal. */
    rig_expect(d, "b", 8 * MIB);
    rig_free(r);
}

/* Nothing in the folder can be written: after a crash or a power loss, no bitmap is good. */
static void everything_fails(bool power_loss, bool stop)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    fail_syncs(r->path + strlen(r->top)); /* "/0" */
    rig_change(d, bits, 0, 1);
    g_free(rig_wait_broken(d));
    rig_change(d, bits, 12 * MIB, 1); /* no journal knows of this */
    if (stop)
        rig_stop(r);
    else
        rig_kill(r);
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    if (power_loss) {
        g_autofree char *notes = g_strdup_printf("rm -rf %s/nbdfleece-[!f]*", r->top);

        g_assert_cmpint(system(notes), ==, 0);
        rig_reboot(r);
        d->modified = 1;
    }
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "");
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "");
    rig_free(r);
}

static void test_everything(void)
{
    everything_fails(false, false);
    everything_fails(false, true);
    everything_fails(true, false);
    everything_fails(true, true);
}

/* An image was cut off, and that could not be committed: the new bits are not in the catalogue. */
static void cut_off(bool stop)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL}, *again;
    struct state_change c[2];
    struct state_transaction *t;

    rig_start(r, 1);
    rig_add(d, "a");
    g_assert_cmpint(store_ops.resize_begin(d->state.disk, 32 * MIB, NULL), ==, 0);
    d->size = 32 * MIB;
    bits[0] = rig_bits(d);
    g_ptr_array_add(d->bits, bits[0]);
    c[0] = rig_say(d, "a", bits[0]);
    g_assert_cmpint(store_ops.prepare(r->store, c, 1, &t, NULL), ==, 0);
    store_ops.broken(d->state.disk, "it was not committed");
    store_ops.end(r->store, t, false);
    rig_change(d, bits, 0, 1);
    again = rig_bits(d); /* the disk goes on to work */
    g_ptr_array_add(d->bits, again);
    c[0].inconsistent = "it was not committed";
    c[1] = rig_say(d, "b", again);
    if (!stop) {
        wait_jobs(r); /* rig_kill's copy takes long: they must not write meanwhile */
        rig_kill(r);
        rig_start(r, 1);
        rig_expect_inconsistent(d, "a", "");
        rig_free(r);
        return;
    }
    g_assert_cmpint(rig_commit(r, c, 2, NULL), ==, 0);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "a", "it was not committed");
    rig_expect(d, "b", 0);
    rig_free(r);
}

static void test_cut_off(void)
{
    cut_off(false);
    cut_off(true);
}

/* A note of a failure that the folder knows of: it is no reason for later ones. */
static void test_old_note(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *uuid = NULL;

    rig_start(r, 1);
    uuid = g_strdup(r->store->folder.uuid);
    rig_stop(r);
    g_assert_cmpint(lasting_note_make(uuid, r->path, "it burnt", NULL), ==, 0);
    rig_start(r, 1);
    g_assert_false(lasting_note_there(uuid));
    rig_free(r);
}

/* The start may be in the catalogue or not: what the next one would ask for stays. */
static void test_start(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *intent = NULL;
    g_autoptr(GError) error = NULL;

    rig_start(r, 1);
    rig_add(&r->disks[0], "b");
    rig_stop(r);
    rig_open(r);
    rig_attach(&r->disks[0]);
    fail_syncs("catalogue.db");
    g_assert_cmpint(store_start(r->store, &error), <, 0);
    g_assert_nonnull(error->message);
    rig_stop(r);
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    intent = rig_file(r, "intent");
    g_assert_true(g_file_test(intent, G_FILE_TEST_EXISTS));
    rig_start(r, 1);
    rig_expect(&r->disks[0], "b", 0);
    rig_stop(r);
    g_assert_true(r->in_order);
    rig_free(r);
}

/* A folder that cannot be used is an error of the start, and loses nothing. */
static void test_recovery(void)
{
    static const char *const files[] = {"catalogue.db", "/live", "/intent"};
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autoptr(GError) error = NULL;

        fail_syncs(files[i]);
        r->o.path = r->path;
        r->store = store_open(&r->o, &error);
        g_assert_null(r->store);
        g_assert_nonnull(error->message);
    }
    fail_syncs(NULL);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-failure/journal/settled", test_journal);
    g_test_add_func("/store-failure/journal/revived", test_journal_revived);
    g_test_add_func("/store-failure/everything", test_everything);
    g_test_add_func("/store-failure/cut-off", test_cut_off);
    g_test_add_func("/store-failure/old-note", test_old_note);
    g_test_add_func("/store-failure/start", test_start);
    g_test_add_func("/store-failure/recovery", test_recovery);
    return g_test_run();
}
