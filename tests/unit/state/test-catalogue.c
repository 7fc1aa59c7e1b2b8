/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/folder.h"
#include "tests/rigs/catalogue-rig.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- rows ---- */

static void test_rows(void)
{
    g_autoptr(GArray) all_disks = NULL, all = NULL;
    struct catalogue_bitmap b;
    struct catalogue_rig p = {NULL};
    int64_t disk;

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    disk = catalogue_rig_put_disk(&p, "a");
    b = catalogue_rig_bitmap(disk, "b\xc3\xa4");
    b.inconsistent = (char *)"because\xff";
    b.recording = false;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, 0);
    catalogue_rig_put_bitmap(&p, disk, "c");
    catalogue_rig_commit(&p);
    catalogue_rig_close(&p);
    catalogue_rig_open(&p);

    all_disks = catalogue_rig_disks(&p, NULL);
    g_assert_cmpuint(all_disks->len, ==, 1);
    g_assert_cmpint(disk_at(all_disks, 0)->id, ==, disk);
    g_assert_cmpstr(disk_at(all_disks, 0)->name, ==, "a");
    g_assert_cmpuint(disk_at(all_disks, 0)->size, ==, 1 << 30);
    g_assert_cmpint(disk_at(all_disks, 0)->state, ==, DISK_CLEAN);
    g_assert_cmpstr(disk_at(all_disks, 0)->image, ==, "file dev=8:1 ino=77");
    g_assert_cmpstr(disk_at(all_disks, 0)->content, ==, "size=1073741824 mtime=5");
    g_assert_false(disk_at(all_disks, 0)->adopted);
    all = catalogue_rig_bitmaps(&p, NULL);
    g_assert_cmpuint(all->len, ==, 2);
    g_assert_cmpstr(bitmap_at(all, 0)->name, ==, "b\xc3\xa4");
    g_assert_cmpstr(bitmap_at(all, 0)->uuid, ==, b.uuid);
    g_assert_cmpstr(bitmap_at(all, 0)->inconsistent, ==, "because\xef\xbf\xbd"); /* U+FFFD */
    g_assert_false(bitmap_at(all, 0)->recording);
    g_assert_true(bitmap_at(all, 0)->sealed);
    g_assert_cmphex(bitmap_at(all, 0)->crc, ==, 0xfedcba98);
    g_assert_cmpuint(bitmap_at(all, 1)->granularity, ==, 65536);
    g_assert_cmpstr(bitmap_at(all, 1)->inconsistent, ==, NULL);
    catalogue_rig_end(&p);
}

static void test_folder_row(void)
{
    struct catalogue_folder f, g;
    struct catalogue_rig p = {NULL};

    catalogue_rig_begin(&p);
    g_assert_cmpint(catalogue_folder(p.c, &f, NULL), ==, 0);
    g_assert_true(g_uuid_string_is_valid(f.uuid));
    g_assert_false(f.open || f.failed);
    f.open = f.failed = true;
    f.run = UINT64_MAX - 4;
    strcpy(f.machine_id, "0123456789abcdef0123456789abcdef");
    strcpy(f.boot_id, f.uuid);
    catalogue_rig_transaction(&p);
    g_assert_cmpint(catalogue_put_folder(p.c, &f, NULL), ==, 0);
    catalogue_rig_commit(&p);
    catalogue_rig_close(&p);
    catalogue_rig_open(&p);
    g_assert_cmpint(catalogue_folder(p.c, &g, NULL), ==, 0);
    g_assert_cmpstr(g.uuid, ==, f.uuid);
    g_assert_cmpstr(g.boot_id, ==, f.boot_id);
    g_assert_cmpstr(g.machine_id, ==, f.machine_id);
    g_assert_true(g.open && g.failed && g.run == f.run);
    catalogue_rig_end(&p);
}

/* A row that exists is changed in its place; ids are never used again. */
static void test_changes(void)
{
    struct catalogue_bitmap b;
    struct catalogue_rig p = {NULL};
    int64_t disk, first, last;

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    disk = catalogue_rig_put_disk(&p, "a");
    first = catalogue_rig_put_bitmap(&p, disk, "b0");
    last = catalogue_rig_put_bitmap(&p, disk, "b1");
    catalogue_rig_commit(&p);
    catalogue_rig_transaction(&p);
    b = catalogue_rig_bitmap(disk, "other");
    b.id = first;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, 0);
    g_assert_cmpint(catalogue_remove_bitmap(p.c, last, NULL), ==, 0);
    g_assert_cmpint(catalogue_remove_bitmap(p.c, last, NULL), ==, 0);
    catalogue_rig_commit(&p);
    catalogue_rig_assert_bitmaps(&p, "other ");
    catalogue_rig_close(&p);
    catalogue_rig_open(&p);
    catalogue_rig_transaction(&p);
    g_assert_cmpint(catalogue_rig_put_bitmap(&p, disk, "b2"), >, last);
    catalogue_rig_commit(&p);
    catalogue_rig_assert_bitmaps(&p, "other b2 ");
    catalogue_rig_transaction(&p);
    g_assert_cmpint(catalogue_remove_disk(p.c, disk, NULL), ==, 0);
    g_assert_cmpint(catalogue_rig_put_disk(&p, "a"), >, disk);
    catalogue_rig_commit(&p);
    catalogue_rig_assert_bitmaps(&p, "");
    catalogue_rig_end(&p);
}

static void test_rollback(void)
{
    struct catalogue_rig p = {NULL};
    int64_t disk;

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    disk = catalogue_rig_put_disk(&p, "a");
    catalogue_rig_put_bitmap(&p, disk, "b0");
    catalogue_rig_commit(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, disk, "b1");
    catalogue_rig_assert_bitmaps(&p, "b0 b1 ");
    catalogue_rollback(p.c);
    catalogue_rig_assert_bitmaps(&p, "b0 ");
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, disk, "b2");
    catalogue_rig_close(&p); /* as at the death of the process */
    catalogue_rig_open(&p);
    catalogue_rig_assert_bitmaps(&p, "b0 ");
    catalogue_rig_transaction(&p);
    catalogue_rig_commit(&p);
    g_assert_cmpint(catalogue_put_disk(p.c,
                                       &(struct catalogue_disk){.name = (char *)"x",
                                                                .image = (char *)"",
                                                                .content = (char *)""},
                                       NULL),
                    ==, -1); /* no transaction */
    catalogue_rig_end(&p);
}

/* A log that somebody cuts short later has nothing to lose. */
static void test_log(void)
{
    g_autofree char *log = NULL;
    struct catalogue_rig p = {NULL};
    struct stat st;

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, catalogue_rig_put_disk(&p, "a"), "b");
    catalogue_rig_commit(&p);
    log = catalogue_rig_path(&p, STATE_CATALOGUE "-wal");
    g_assert_cmpint(stat(log, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 0);
    catalogue_rig_end(&p);
}

/* Two of one name: refused at the end of the transaction, not before. */
static void test_names(void)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_bitmap b;
    struct catalogue_rig p = {NULL};
    int64_t disk, id;

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    disk = catalogue_rig_put_disk(&p, "a");
    id = catalogue_rig_put_bitmap(&p, disk, "b");
    catalogue_rig_commit(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, disk, "b");
    g_assert_cmpint(catalogue_remove_bitmap(p.c, id, NULL), ==, 0);
    catalogue_rig_commit(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, disk, "b");
    g_assert_cmpint(catalogue_commit(p.c, NULL, &err), ==, -1);
    g_assert_true(g_str_has_suffix(err->message, "'b' would be there twice"));
    catalogue_rig_assert_bitmaps(&p, "b ");
    catalogue_rig_transaction(&p);
    b = catalogue_rig_bitmap(disk, "b\xff");
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, -1);
    b = catalogue_rig_bitmap(disk, "x");
    b.granularity = 1000;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, -1);
    b = catalogue_rig_bitmap(disk, "y");
    b.size = UINT64_MAX;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, -1);
    catalogue_rig_commit(&p);
    catalogue_rig_assert_bitmaps(&p, "b ");
    catalogue_rig_end(&p);
}

static void assert_no_record(struct catalogue_rig *p, const char *kind, const char *name,
                             const char *text, const char *why)
{
    struct catalogue_record r = {.kind = (char *)kind, .name = (char *)name, .text = (char *)text};
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(catalogue_put_record(p->c, &r, &err), ==, -1);
    g_assert_true(g_str_has_suffix(err->message, why));
    g_assert_cmpint(r.id, ==, 0);
}

static void test_records(void)
{
    g_autofree char *most = g_strnfill(CATALOGUE_MAX_RECORD, 'x');
    g_autofree char *more = g_strnfill(CATALOGUE_MAX_RECORD + 1, 'x');
    g_autofree char *name = g_strnfill(1023, 'n');
    g_autoptr(GError) err = NULL;
    struct catalogue_record r = {.kind = (char *)"session", .name = (char *)"2", .text = most};
    struct catalogue_rig p = {NULL};

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_record(&p, "session", "1", "{\"a\": \"\xc3\xa4\"}");
    r.id = catalogue_rig_put_record(&p, "session", "2", "");
    catalogue_rig_put_record(&p, "checkpoint", "1", "x");
    catalogue_rig_commit(&p);
    catalogue_rig_assert_records(&p, "session/1={\"a\": \"\xc3\xa4\"} session/2= checkpoint/1=x ");
    catalogue_rig_transaction(&p);
    assert_no_record(&p, "", "1", "x", "its kind or its name is no name");
    assert_no_record(&p, "session", "a\xff", "x", "its kind or its name is no name");
    assert_no_record(&p, "session", "3", more, "its text is missing or too long");
    assert_no_record(&p, "session", "3", NULL, "its text is missing or too long");
    assert_no_record(&p, "session", "3", "\xff", "its text is not UTF-8");
    g_assert_cmpint(catalogue_put_record(p.c, &r, NULL), ==, 0);
    catalogue_rig_put_record(&p, name, name, most);
    catalogue_rig_commit(&p);
    catalogue_rig_close(&p);
    catalogue_rig_open(&p);
    catalogue_rig_transaction(&p);
    g_assert_cmpint(catalogue_remove_record(p.c, r.id, NULL), ==, 0);
    g_assert_cmpint(catalogue_remove_record(p.c, r.id + 2, NULL), ==, 0);
    g_assert_cmpint(catalogue_remove_record(p.c, r.id + 7, NULL), ==, 0);
    catalogue_rig_commit(&p);
    catalogue_rig_assert_records(&p, "session/1={\"a\": \"\xc3\xa4\"} checkpoint/1=x ");
    catalogue_rig_transaction(&p);
    catalogue_rig_put_record(&p, "checkpoint", "1", "y");
    g_assert_cmpint(catalogue_commit(p.c, NULL, &err), ==, -1);
    g_assert_true(g_str_has_suffix(err->message, "'1' would be there twice"));
    catalogue_rig_end(&p);
}

/* ---- versions and other files ---- */

static void test_versions(void)
{
    struct catalogue_rig p = {NULL};

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, catalogue_rig_put_disk(&p, "a"), "b");
    catalogue_rig_commit(&p);
    catalogue_rig_close(&p);
    catalogue_rig_run_sql(&p, "PRAGMA user_version = 9");
    catalogue_rig_assert_refused(
        &p, "state: %s: made by a newer version (format 9; this one knows up to 4)");
    catalogue_rig_run_sql(&p, "PRAGMA user_version = 0");
    catalogue_rig_assert_refused(&p, "state: %s/catalogue.db: this is no catalogue of nbdfleece");
    catalogue_rig_run_sql(&p, "PRAGMA user_version = 4; PRAGMA application_id = 5");
    catalogue_rig_assert_refused(&p, "state: %s/catalogue.db: this is no catalogue of nbdfleece");
    catalogue_rig_end(&p);
}

/* What each step has made, undone. */
#define TO_3                                                                                       \
    "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY,"                                            \
    " disk INTEGER NOT NULL REFERENCES disks (id) ON DELETE CASCADE,"                              \
    " name TEXT, description TEXT, created INTEGER, crc INTEGER);"                                 \
    "CREATE TABLE checkpoint_bitmaps (id INTEGER PRIMARY KEY,"                                     \
    " checkpoint INTEGER NOT NULL REFERENCES checkpoints (id) ON DELETE CASCADE,"                  \
    " bitmap INTEGER NOT NULL REFERENCES bitmaps (id) ON DELETE CASCADE, crc INTEGER);"            \
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT, created INTEGER, crc INTEGER);"     \
    "DROP TABLE records; DELETE FROM tally WHERE id = 3; PRAGMA user_version = 3;"
#define TO_1                                                                                       \
    TO_3 "DROP TABLE checkpoint_bitmaps; DROP TABLE checkpoints; DROP TABLE sessions;"             \
         "ALTER TABLE folder RENAME COLUMN run TO mount_id; PRAGMA user_version = 1;"

static void test_upgrade(void)
{
    static const char *const versions[] = {TO_3, TO_1};
    struct catalogue_rig p = {NULL};

    catalogue_rig_begin(&p);
    catalogue_rig_transaction(&p);
    catalogue_rig_put_bitmap(&p, catalogue_rig_put_disk(&p, "a"), "b");
    catalogue_rig_commit(&p);
    for (size_t i = 0; i < G_N_ELEMENTS(versions); i++) {
        catalogue_rig_close(&p);
        catalogue_rig_run_sql(&p, versions[i]);
        catalogue_rig_open(&p);
        catalogue_rig_assert_bitmaps(&p, "b ");
        catalogue_rig_assert_records(&p, "");
        /* The new table's counts are right before anything is written. */
        catalogue_rig_close(&p);
        catalogue_rig_open(&p);
        catalogue_rig_assert_records(&p, "");
        catalogue_rig_transaction(&p);
        catalogue_rig_put_record(&p, "checkpoint", "mon", "{}");
        catalogue_rig_commit(&p);
        catalogue_rig_close(&p);
        catalogue_rig_open(&p);
        catalogue_rig_assert_bitmaps(&p, "b ");
        catalogue_rig_assert_records(&p, "checkpoint/mon={} ");
    }
    catalogue_rig_close(&p);
    catalogue_rig_run_sql(&p, "SELECT id, kind, name, text, crc FROM records");
    /* A step that fails leaves all as it was. */
    catalogue_rig_run_sql(&p, TO_1 "CREATE TABLE records (id INTEGER PRIMARY KEY)");
    g_assert_null(catalogue_open(p.s, NULL));
    catalogue_rig_run_sql(&p, "SELECT mount_id FROM folder; DROP TABLE records");
    catalogue_rig_open(&p);
    catalogue_rig_end(&p);
}

static void test_other_files(void)
{
    struct catalogue_rig p = {NULL};
    g_autofree char *bits = NULL, *catalogue = NULL, *file = NULL;
    char page[4096] = {1};

    catalogue_rig_begin(&p);
    catalogue_rig_close(&p);
    catalogue_rig_write_file(&p, STATE_CATALOGUE, page, sizeof page);
    catalogue_rig_assert_refused(&p,
                                 "state: %s/catalogue.db: it is damaged: file is not a database");
    catalogue_rig_write_file(&p, STATE_CATALOGUE, "", 0);
    catalogue_rig_assert_refused(&p, "state: %s/catalogue.db: it is damaged: it is cut short");
    /* A catalogue that is gone is not replaced by an empty one. */
    catalogue = catalogue_rig_path(&p, STATE_CATALOGUE);
    bits = catalogue_rig_path(&p, "bits");
    file = catalogue_rig_path(&p, "bits/x");
    g_assert_cmpint(unlink(catalogue), ==, 0);
    g_assert_cmpint(mkdir(bits, 0700), ==, 0);
    catalogue_rig_write_file(&p, "bits/x", page, sizeof page);
    catalogue_rig_assert_refused(
        &p, "state: %s/catalogue.db: it is missing, and the folder has other files of a "
            "state folder: restore it, or begin with a new folder");
    g_assert_cmpint(unlink(file), ==, 0);
    /* What the beginning of a making has left does no harm. */
    catalogue_rig_write_file(&p, "catalogue.new", page, sizeof page);
    catalogue_rig_open(&p);
    catalogue_rig_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/catalogue/rows", test_rows);
    g_test_add_func("/catalogue/folder", test_folder_row);
    g_test_add_func("/catalogue/changes", test_changes);
    g_test_add_func("/catalogue/rollback", test_rollback);
    g_test_add_func("/catalogue/log", test_log);
    g_test_add_func("/catalogue/names", test_names);
    g_test_add_func("/catalogue/records", test_records);
    g_test_add_func("/catalogue/versions", test_versions);
    g_test_add_func("/catalogue/upgrade", test_upgrade);
    g_test_add_func("/catalogue/other-files", test_other_files);
    return g_test_run();
}
