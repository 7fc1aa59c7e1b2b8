/* SPDX-License-Identifier: BSD-3-Clause */
/* Checkpoints without QMP: pending ones, instants and catalogues that fail, what a start finds. */
#include "server/backup/checkpoint-record.h"
#include "server/state/store.h"
#include "tests/rigs/backup-rig.h"

#include <string.h>

static void begin(struct house *h, bool with_store)
{
    house_build(h, with_store);
    house_start(h, "vda vdb");
}

static void end(struct house *h)
{
    house_stop(h);
    house_clear(h);
}

static bool is_living(void *opaque, const char *id)
{
    return strcmp(id, "living") == 0;
}

static void restart(struct house *h, bool with_vdb)
{
    GError *error = NULL;

    house_stop(h);
    house_start(h, with_vdb ? "vda vdb" : "vda");
    checkpoints_restore(h->checkpoints, is_living, NULL, &error);
    g_assert_no_error(error);
}

/* ---- what tests do and check ---- */

static int stage(struct house *h, struct instant *i, const char *name, const char *session,
                 GError **err)
{
    g_autoptr(GPtrArray) disks = server_disks(h->server);
    const struct checkpoint_options options = {.name = name, .disks = disks, .session = session};

    return checkpoint_stage_create(h->checkpoints, i, &options, err);
}

static char *create(struct house *h, const char *name, const char *session)
{
    struct instant *i = instant_new();
    GError *error = NULL;
    int staged = stage(h, i, name, session, &error);

    return finish(i, staged, error);
}

static char *keep(struct house *h, const char *name)
{
    struct instant *i = instant_new();
    GError *error = NULL;
    int staged = checkpoint_stage_keep(h->checkpoints, i, name, &error);

    return finish(i, staged, error);
}

static char *drop(struct house *h, const char *name, const char *session, const char *reason)
{
    struct instant *i = instant_new();
    GError *error = NULL;
    int staged = checkpoint_stage_delete(h->checkpoints, i, name, session, reason, &error);

    return finish(i, staged, error);
}

/* "NAME(PARENT) NAME(PARENT)" */
static void expect_list(struct house *h, const char *expected)
{
    g_autoptr(GArray) list = checkpoints_list(h->checkpoints);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < list->len; i++) {
        const struct checkpoint_info *info = &g_array_index(list, struct checkpoint_info, i);

        g_string_append_printf(text, "%s%s(%s)", i ? " " : "", info->name,
                               info->parent ? info->parent : "");
        g_assert_cmpint(info->time_usec, >, INT64_C(1700000000000000));
    }
    g_assert_cmpstr(text->str, ==, expected);
}

/* NULL: it is a base. */
static char *not_base(struct house *h, const char *name, struct disk *d)
{
    char *why;
    struct dirty_bitmap *db = checkpoint_base(h->checkpoints, name, d, &why);

    g_assert_true(!db == (why != NULL));
    if (db)
        dirty_bitmap_unref(db);
    return why;
}

/* ---- tests ---- */

static void test_pending(void)
{
    struct house h;

    begin(&h, false);
    expect(create(&h, "old", NULL), NULL);
    expect(create(&h, "p", "s"), NULL);
    expect_bitmaps(h.vda, "(old) (p)");
    expect_list(&h, "old()");
    expect(not_base(&h, "p", h.vda), "checkpoint 'p' is not committed");
    expect(create(&h, "p", NULL), "Checkpoint already exists: p");
    expect(drop(&h, "p", NULL, "x"),
           "Checkpoint 'p' belongs to backup session 's', which has not ended");
    expect(drop(&h, "p", "other", "x"), "Checkpoint 'p' not found");
    expect(drop(&h, "old", "s", "x"), "Checkpoint 'old' not found");
    expect(keep(&h, "old"), "Checkpoint 'old' not found");
    expect(create(&h, "later", NULL), NULL);
    expect_list(&h, "old() later(old)");
    expect(keep(&h, "p"), NULL);
    expect(keep(&h, "p"), "Checkpoint 'p' not found");
    expect_list(&h, "old() p(old) later(p)");
    expect(not_base(&h, "p", h.vda), NULL);
    expect(create(&h, "q", "s"), NULL);
    expect(drop(&h, "q", "s", NULL), NULL);
    expect_bitmaps(h.vdb, "(old) (p) (later)");
    expect(drop(&h, "p", NULL, "so"), NULL);
    run_main_loop();
    g_assert_cmpstr(h.events->str, ==, "p:so;");
    end(&h);
}

static void test_bases(void)
{
    struct house h;
    struct instant *i = instant_new();
    GError *error = NULL;

    begin(&h, false);
    expect(not_base(&h, "a", h.vda), "there is no checkpoint 'a'");
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_ptr_array_add(disks, h.vda);
    const struct checkpoint_options options = {.name = "a", .disks = disks};
    checkpoint_stage_create(h.checkpoints, i, &options, &error);
    g_assert_no_error(error);
    expect(not_base(&h, "a", h.vda), "there is no checkpoint 'a'");
    g_assert_true(checkpoint_has_bitmap(h.checkpoints, h.vda, "a"));
    g_assert_false(checkpoint_has_bitmap(h.checkpoints, h.vdb, "a"));
    instant_commit(i, &error);
    g_assert_no_error(error);
    expect(not_base(&h, "a", h.vda), NULL);
    expect(not_base(&h, "a", h.vdb), "checkpoint 'a' has no part of disk vdb");
    i = instant_new();
    checkpoint_stage_delete(h.checkpoints, i, "a", NULL, "x", &error);
    g_assert_no_error(error);
    expect(not_base(&h, "a", h.vda), "checkpoint 'a' is being deleted");
    expect(create(&h, "a", NULL), "Checkpoint already exists: a");
    instant_abort(i);
    expect(not_base(&h, "a", h.vda), NULL);
    end(&h);
}

/* An instant that hangs is left at the server's end, and may go on later. */
static void test_left(void)
{
    struct instant *i = instant_new();
    GError *error = NULL;
    struct house h;

    begin(&h, false);
    stage(&h, i, "a", NULL, &error);
    g_assert_no_error(error);
    g_assert_false(checkpoints_free(h.checkpoints));
    instant_commit(i, &error);
    g_assert_no_error(error);
    i = instant_new();
    checkpoint_stage_delete(h.checkpoints, i, "a", NULL, "x", &error);
    g_assert_no_error(error);
    g_assert_false(checkpoints_free(h.checkpoints));
    instant_commit(i, &error);
    g_assert_no_error(error);
    end(&h);
}

/* The record of a deleted checkpoint says what is still to be removed. It is not overwritten. */
static void test_rest(void)
{
    const char *text =
        "Checkpoint already exists: a (it is deleted, but for its bitmap on disk vdb, "
        "which is not served)";
    struct house h;

    begin(&h, true);
    expect(create(&h, "a", NULL), NULL);
    restart(&h, false);
    expect(drop(&h, "a", NULL, "x"), NULL);
    expect(create(&h, "a", NULL), text);
    restart(&h, false);
    expect(create(&h, "a", NULL), text);
    restart(&h, true);
    expect_bitmaps(h.vdb, "");
    expect(create(&h, "a", NULL), NULL);
    end(&h);
}

/* Whatever was to happen to a checkpoint, nothing has, also in the state folder. */
static void check_failures(struct house *h, void (*spoil)(struct house *h, struct instant *i))
{
    for (int what = 0; what < 3; what++) {
        struct instant *i = instant_new();
        GError *error = NULL;

        if (what == 0)
            stage(h, i, "new", NULL, &error);
        else if (what == 1)
            checkpoint_stage_delete(h->checkpoints, i, "old", NULL, "x", &error);
        else
            checkpoint_stage_keep(h->checkpoints, i, "pending", &error);
        g_assert_no_error(error);
        spoil(h, i);
        instant_commit(i, &error);
        g_assert_nonnull(error);
        g_clear_error(&error);
        expect_list(h, "old()");
        expect_bitmaps(h->vda, "(old) (pending)");
        expect_bitmaps(h->vdb, "(old) (pending)");
    }
    run_main_loop();
    g_assert_cmpstr(h->events->str, ==, "");
}

static void test_failures(void)
{
    struct house h;

    begin(&h, true);
    expect(create(&h, "old", NULL), NULL);
    expect(create(&h, "pending", "living"), NULL);
    check_failures(&h, spoil_prepare);
    check_failures(&h, spoil_commit);
    restart(&h, true);
    expect_list(&h, "old()");
    expect_bitmaps(h.vda, "(old) (pending)");
    expect(keep(&h, "pending"), NULL);
    expect(create(&h, "new", NULL), NULL);
    expect(drop(&h, "old", NULL, "x"), NULL);
    restart(&h, true);
    expect_list(&h, "pending() new(pending)");
    expect_bitmaps(h.vdb, "(pending) (new)");
    end(&h);
}

/* Pending ones go with their sessions, also on disks that are served only later. */
static void test_session_is_gone(void)
{
    struct house h;

    begin(&h, true);
    expect(create(&h, "old", NULL), NULL);
    expect(create(&h, "p", "dead"), NULL);
    expect(create(&h, "q", "living"), NULL);
    restart(&h, false);
    expect_list(&h, "old()");
    expect_bitmaps(h.vda, "(old) (q)");
    expect(not_base(&h, "old", h.vda), NULL);
    restart(&h, true);
    expect_bitmaps(h.vda, "(old) (q)");
    expect_bitmaps(h.vdb, "(old) (q)");
    restart(&h, true);
    expect(create(&h, "p", NULL), NULL);
    g_assert_cmpstr(h.events->str, ==, "");
    end(&h);
}

/* A record that cannot be read is removed, and its bitmaps are ordinary ones. A bitmap that does not
 * record is not taken for a checkpoint's. */
static void test_bad_records(void)
{
    struct house h;
    GError *error = NULL;

    begin(&h, true);
    struct instant *i = instant_new();
    instant_bitmap_add(i, h.vda, "still", 0, false, true, &error);
    g_assert_no_error(error);
    instant_commit(i, &error);
    g_assert_no_error(error);
    expect(create(&h, "good", NULL), NULL);
    expect(create(&h, "bad", NULL), NULL);
    put_record(&h, "checkpoint", "bad", "{}");
    put_record(&h, "checkpoint", "still",
               "{\"time-usec\": 1800000000000000, \"disks\": [\"vda\"]}");
    restart(&h, true);
    expect_list(&h, "good() still(good)");
    expect_bitmaps(h.vda, "still (good) bad");
    expect(not_base(&h, "still", h.vda), "its bitmap is gone");
    restart(&h, true);
    expect_list(&h, "good() still(good)");
    expect(drop(&h, "still", NULL, "x"), NULL);
    expect_bitmaps(h.vda, "still (good) bad");
    end(&h);
}

/* The record of the only checkpoint; owned. */
static struct checkpoint_record *only_record(struct house *h)
{
    g_autoptr(GArray) records = store_records(h->store, CHECKPOINT_KIND);
    const struct store_record *r = &g_array_index(records, struct store_record, 0);
    struct checkpoint_record *record;

    g_assert_cmpuint(records->len, ==, 1);
    record = checkpoint_record_parse(r->name, r->text, NULL);
    g_assert_nonnull(record);
    return record;
}

/* A record knows its disks by their numbers, too, whatever becomes of it. */
static void test_disk_ids(void)
{
    struct checkpoint_record *r;
    struct house h;
    int64_t vdb;

    begin(&h, true);
    vdb = disk_store_id(h.vdb);
    g_assert_cmpint(vdb, !=, disk_store_id(h.vda));
    expect(create(&h, "a", "living"), NULL);
    restart(&h, true);
    expect(keep(&h, "a"), NULL);
    r = only_record(&h);
    g_assert_cmpuint(r->disks->len, ==, 2);
    g_assert_cmpint(checkpoint_record_disk_id(r, 0), ==, disk_store_id(h.vda));
    g_assert_cmpint(checkpoint_record_disk_id(r, 1), ==, vdb);
    checkpoint_record_free(r);
    restart(&h, false);
    expect(drop(&h, "a", NULL, "x"), NULL);
    r = only_record(&h);
    g_assert_true(r->deleted);
    g_assert_cmpuint(r->disks->len, ==, 1);
    g_assert_cmpint(checkpoint_record_disk_id(r, 0), ==, vdb);
    checkpoint_record_free(r);
    end(&h);
}

/* A disk has got the name of another one, and has a bitmap with the checkpoint's name: that is not the
 * checkpoint's. Where a record does not say which disk it means, the name counts. */
static void test_other_disk(void)
{
    static const char *const names[] = {"this", "other", "unsaid"};
    struct instant *i = instant_new();
    struct house h;
    GError *error = NULL;

    begin(&h, true);
    for (unsigned k = 0; k < G_N_ELEMENTS(names); k++) {
        instant_bitmap_add(i, h.vda, names[k], 0, true, true, &error);
        g_assert_no_error(error);
    }
    instant_commit(i, &error);
    g_assert_no_error(error);
    for (unsigned k = 0; k < G_N_ELEMENTS(names); k++) {
        int64_t id = disk_store_id(k == 0 ? h.vda : h.vdb);
        g_autofree char *ids = g_strdup_printf(", \"disk-ids\": [%" G_GINT64_FORMAT "]", id);
        g_autofree char *text = g_strdup_printf(
            "{\"time-usec\": 1800000000000000, \"disks\": [\"vda\"]%s}", k == 2 ? "" : ids);

        g_assert_cmpint(id, >, 0);
        put_record(&h, CHECKPOINT_KIND, names[k], text);
    }
    for (unsigned k = 0; k < 2; k++) {
        restart(&h, true);
        expect_list(&h, "this() other(this) unsaid(other)");
        expect(not_base(&h, "this", h.vda), NULL);
        expect(not_base(&h, "other", h.vda), "its bitmap is gone");
        expect(not_base(&h, "unsaid", h.vda), NULL);
    }
    expect(drop(&h, "other", NULL, "x"), NULL);
    expect_bitmaps(h.vda, "(this) other (unsaid)");
    end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/checkpoints/pending", test_pending);
    g_test_add_func("/checkpoints/bases", test_bases);
    g_test_add_func("/checkpoints/left", test_left);
    g_test_add_func("/checkpoints/rest", test_rest);
    g_test_add_func("/checkpoints/failures", test_failures);
    g_test_add_func("/checkpoints/session-is-gone", test_session_is_gone);
    g_test_add_func("/checkpoints/bad-records", test_bad_records);
    g_test_add_func("/checkpoints/disk-ids", test_disk_ids);
    g_test_add_func("/checkpoints/other-disk", test_other_disk);
    return g_test_run();
}
