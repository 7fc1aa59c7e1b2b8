/* SPDX-License-Identifier: BSD-3-Clause */
/* Records in transactions of a store. */
#include "common/state/folder.h"
#include "tests/rigs/store-rig.h"

#include <sqlite3.h>
#include <string.h>

static void put(struct store_rig *r, const char *kind, const char *name, const char *text)
{
    struct rig_text t = {.text = text};
    const struct state_record record = {
        .kind = kind, .name = name, .text = text ? rig_give_text : NULL, .opaque = &t};
    g_autoptr(GError) error = NULL;

    rig_commit_records(r, NULL, 0, &record, 1, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(t.asked, ==, text ? 1 : 0);
}

/* They survive, in order of creation, with nothing else in their transactions. */
static void test_records(void)
{
    struct store_rig *r = rig_new();

    rig_start(r, 1);
    rig_expect_records(r, "checkpoint", "");
    put(r, "checkpoint", "a", "1");
    put(r, "session", "a", "2");
    put(r, "checkpoint", "b", "3");
    put(r, "checkpoint", "a", "4");
    put(r, "checkpoint", "none", NULL);
    rig_expect_records(r, "checkpoint", "a=4 b=3 ");
    rig_kill(r);
    rig_start(r, 1);
    rig_expect_records(r, "checkpoint", "a=4 b=3 ");
    rig_expect_records(r, "session", "a=2 ");
    put(r, "checkpoint", "a", NULL);
    rig_restart(r, 1);
    rig_expect_records(r, "checkpoint", "b=3 ");
    put(r, "checkpoint", "a", "5");
    rig_expect_records(r, "checkpoint", "b=3 a=5 ");
    rig_free(r);
}

/* Of several changes of one record the last counts. */
static void test_records_twice(void)
{
    struct store_rig *r = rig_new();
    struct rig_text first = {.text = "1"}, last = {.text = "2"};
    const struct state_record records[] = {
        {"checkpoint", "a", rig_give_text, &first},   {"checkpoint", "b", rig_give_text, &first},
        {"checkpoint", "gone", rig_give_text, &last}, {"checkpoint", "a", rig_give_text, &last},
        {"checkpoint", "gone", NULL, NULL},
    };

    rig_start(r, 1);
    put(r, "checkpoint", "gone", "0");
    g_assert_cmpint(rig_commit_records(r, NULL, 0, records, G_N_ELEMENTS(records), NULL), ==, 0);
    g_assert_cmpuint(first.asked, ==, 1);
    g_assert_cmpuint(last.asked, ==, 1);
    rig_expect_records(r, "checkpoint", "a=2 b=1 ");
    rig_restart(r, 1);
    rig_expect_records(r, "checkpoint", "a=2 b=1 ");
    rig_free(r);
}

/* A record that cannot be kept: its bitmap is not there either, and nobody is asked again. */
static void test_records_refused(void)
{
    g_autofree char *most = g_strnfill(STATE_MAX_RECORD, 'x');
    g_autofree char *more = g_strnfill(STATE_MAX_RECORD + 1, 'x');
    g_autofree char *name = g_strnfill(STATE_MAX_RECORD_NAME + 1, 'n');
    const struct {
        const char *name, *text, *why;
    } cases[] = {
        {"a", more, "checkpoint 'a' cannot be kept: its record has 1048577 bytes, and at most "},
        {"a", "a\xff", "checkpoint 'a' cannot be kept: its record is not UTF-8"},
        {"a", NULL, "checkpoint 'a' cannot be kept: it has no text"},
        {"", "x", "checkpoint '' cannot be kept: its name is none"},
        {name, "x", "cannot be kept: its name is none"},
    };
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct rig_text t = {.text = cases[i].text}, other = {.text = "x"};
        const struct state_record records[] = {{"checkpoint", "good", rig_give_text, &other},
                                               {"checkpoint", cases[i].name, rig_give_text, &t}};
        struct bitmap *bits = rig_bits(d);
        struct state_change c = rig_say(d, "b", bits);
        g_autoptr(GError) error = NULL;

        g_ptr_array_add(d->bits, bits);
        g_assert_cmpint(rig_commit_records(r, &c, 1, records, 2, &error), ==, -1);
        g_assert_nonnull(strstr(error->message, cases[i].why));
        g_assert_cmpuint(other.asked, ==, 1);
    }
    put(r, "checkpoint", "most", most);
    rig_restart(r, 1);
    g_assert_cmpuint(d->found->len, ==, 0);
    put(r, "checkpoint", "most", NULL);
    rig_expect_records(r, "checkpoint", "");
    rig_free(r);
}

/* How far a transaction comes decides of both: a bitmap and the record that names it. */
static void test_records_killed(void)
{
    for (unsigned committed = 0; committed < 2; committed++) {
        struct store_rig *r = rig_new();
        struct rig_disk *d = &r->disks[0];
        struct rig_text text = {.text = "new"};
        const struct state_record record = {"checkpoint", "b", rig_give_text, &text};
        struct state_transaction *t;
        struct state_change c;
        struct bitmap *bits;

        rig_start(r, 1);
        put(r, "checkpoint", "b", "old");
        bits = rig_bits(d);
        c = rig_say(d, "b", bits);
        g_ptr_array_add(d->bits, bits);
        g_assert_cmpint(store_ops.prepare(r->store, &c, 1, &t, NULL), ==, 0);
        store_ops.record(t, &record);
        if (committed)
            g_assert_cmpint(store_ops.commit(r->store, t, NULL), ==, 0);
        rig_kill(r);
        store_ops.end(NULL, t, false);
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, ==, committed ? 1 : 0);
        rig_expect_records(r, "checkpoint", committed ? "b=new " : "b=old ");
        rig_free(r);
    }
}

/* One that is damaged is left out, and does not come back; bitmaps stay good. */
static void test_records_damaged(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *catalogue = NULL;
    sqlite3 *db;

    rig_start(r, 1);
    rig_add(&r->disks[0], "b");
    put(r, "checkpoint", "a", "1");
    put(r, "checkpoint", "b", "2");
    rig_stop(r);
    catalogue = rig_file(r, STATE_CATALOGUE);
    g_assert_cmpint(sqlite3_open(catalogue, &db), ==, SQLITE_OK);
    g_assert_cmpint(
        sqlite3_exec(db, "UPDATE records SET text = 'x' WHERE name = 'a'", NULL, NULL, NULL), ==,
        SQLITE_OK);
    sqlite3_close(db);
    rig_start(r, 1);
    rig_expect_records(r, "checkpoint", "b=2 ");
    rig_expect(&r->disks[0], "b", 0);
    put(r, "checkpoint", "a", "3");
    rig_restart(r, 1);
    rig_expect_records(r, "checkpoint", "b=2 a=3 ");
    rig_expect(&r->disks[0], "b", 0);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-records/all", test_records);
    g_test_add_func("/store-records/twice", test_records_twice);
    g_test_add_func("/store-records/refused", test_records_refused);
    g_test_add_func("/store-records/killed", test_records_killed);
    g_test_add_func("/store-records/damaged", test_records_damaged);
    return g_test_run();
}
