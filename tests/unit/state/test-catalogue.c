/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue.h"

#include "common/state/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a folder with a catalogue ---- */

struct place {
    char *folder;
    struct storage *s;
    struct catalogue *c;
};

static void reopen_storage(struct place *p)
{
    g_autoptr(GError) err = NULL;

    p->s = state_folder_open(p->folder, true, &err);
    g_assert_no_error(err);
    g_assert_nonnull(p->s);
}

static void open_catalogue(struct place *p)
{
    g_autoptr(GError) err = NULL;

    p->c = catalogue_open(p->s, &err);
    g_assert_no_error(err);
    g_assert_nonnull(p->c);
}

static void close_catalogue(struct place *p)
{
    catalogue_close(p->c);
    p->c = NULL;
}

static void place_begin(struct place *p)
{
    p->folder = g_dir_make_tmp("catalogue-XXXXXX", NULL);
    g_assert_nonnull(p->folder);
    reopen_storage(p);
    open_catalogue(p);
}

static char *file_path(struct place *p, const char *name)
{
    return g_build_filename(p->folder, name, NULL);
}

static void place_end(struct place *p)
{
    static const char *const names[] = {"lock",   "catalogue.db", "catalogue.db-wal",
                                        "old.db", "bits",         ""};

    if (p->c)
        close_catalogue(p);
    if (p->s)
        p->s->ops->free(p->s);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = file_path(p, names[i]);

        if (remove(path) < 0)
            g_assert_cmpint(errno, ==, ENOENT);
    }
    g_free(p->folder);
}

/* ---- short ways to say what is done ---- */

static void begin(struct place *p)
{
    g_autoptr(GError) err = NULL;
    int r = catalogue_begin(p->c, &err);

    g_assert_no_error(err);
    g_assert_cmpint(r, ==, 0);
}

static void commit(struct place *p)
{
    g_autoptr(GError) err = NULL;
    bool unsure = true;
    int r = catalogue_commit(p->c, &unsure, &err);

    g_assert_no_error(err);
    g_assert_cmpint(r, ==, 0);
    g_assert_false(unsure);
}

static int64_t put_disk(struct place *p, const char *name)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_disk d = {.name = (char *)name,
                               .size = 1 << 30,
                               .state = DISK_CLEAN,
                               .image = (char *)"file dev=8:1 ino=77",
                               .content = (char *)"size=1073741824 mtime=5",
                               .changed_until = 0};

    catalogue_put_disk(p->c, &d, &err);
    g_assert_no_error(err);
    g_assert_cmpint(d.id, >, 0);
    return d.id;
}

static struct catalogue_bitmap bitmap_of(int64_t disk, const char *name)
{
    g_autofree char *uuid = g_uuid_string_random();
    struct catalogue_bitmap b = {.disk = disk,
                                 .name = (char *)name,
                                 .granularity = 65536,
                                 .size = 1 << 30,
                                 .recording = true,
                                 .sealed = true,
                                 .crc = 0xfedcba98};

    g_strlcpy(b.uuid, uuid, sizeof b.uuid);
    return b;
}

static int64_t put_bitmap(struct place *p, int64_t disk, const char *name)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_bitmap b = bitmap_of(disk, name);

    catalogue_put_bitmap(p->c, &b, &err);
    g_assert_no_error(err);
    g_assert_cmpint(b.id, >, 0);
    return b.id;
}

static GPtrArray *sentences_new(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static GArray *disks(struct place *p, GPtrArray *damaged)
{
    g_autoptr(GError) err = NULL;
    GArray *rows = catalogue_disks(p->c, damaged, &err);

    g_assert_no_error(err);
    return rows;
}

static GArray *bitmaps(struct place *p, GPtrArray *damaged)
{
    g_autoptr(GError) err = NULL;
    GArray *rows = catalogue_bitmaps(p->c, damaged, &err);

    g_assert_no_error(err);
    return rows;
}

static struct catalogue_bitmap *bitmap_at(GArray *rows, unsigned i)
{
    g_assert_cmpuint(i, <, rows->len);
    return &g_array_index(rows, struct catalogue_bitmap, i);
}

static struct catalogue_disk *disk_at(GArray *rows, unsigned i)
{
    g_assert_cmpuint(i, <, rows->len);
    return &g_array_index(rows, struct catalogue_disk, i);
}

/* The names of all bitmaps, in their order, with a space after each. */
static void assert_bitmaps(struct place *p, const char *expected)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    g_autoptr(GArray) rows = bitmaps(p, damaged);
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned i = 0; i < rows->len; i++)
        g_string_append_printf(names, "%s ", bitmap_at(rows, i)->name);
    g_assert_cmpstr(names->str, ==, expected);
    g_assert_cmpuint(damaged->len, ==, 0);
}

/* Run SQL on the closed database. */
static void run_sql(struct place *p, const char *sql)
{
    g_autofree char *path = file_path(p, STATE_CATALOGUE);
    char *message = NULL;
    sqlite3 *db;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    sqlite3_exec(db, sql, NULL, NULL, &message);
    g_assert_cmpstr(message, ==, NULL);
    sqlite3_close(db);
}

static void assert_refused(struct place *p, const char *format)
{
    g_autofree char *expected = g_strdup_printf(format, p->folder);
    g_autoptr(GError) err = NULL;

    g_assert_null(catalogue_open(p->s, &err));
    g_assert_cmpstr(err->message, ==, expected);
}

/* ---- rows ---- */

static void test_rows(void)
{
    g_autoptr(GArray) all_disks = NULL, all = NULL;
    struct catalogue_bitmap b;
    struct place p = {NULL};
    int64_t disk;

    place_begin(&p);
    begin(&p);
    disk = put_disk(&p, "a");
    b = bitmap_of(disk, "b\xc3\xa4");
    b.inconsistent = (char *)"because\xff";
    b.recording = false;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, 0);
    put_bitmap(&p, disk, "c");
    commit(&p);
    close_catalogue(&p);
    open_catalogue(&p);

    all_disks = disks(&p, NULL);
    g_assert_cmpuint(all_disks->len, ==, 1);
    g_assert_cmpint(disk_at(all_disks, 0)->id, ==, disk);
    g_assert_cmpstr(disk_at(all_disks, 0)->name, ==, "a");
    g_assert_cmpuint(disk_at(all_disks, 0)->size, ==, 1 << 30);
    g_assert_cmpint(disk_at(all_disks, 0)->state, ==, DISK_CLEAN);
    g_assert_cmpstr(disk_at(all_disks, 0)->image, ==, "file dev=8:1 ino=77");
    g_assert_cmpstr(disk_at(all_disks, 0)->content, ==, "size=1073741824 mtime=5");
    g_assert_false(disk_at(all_disks, 0)->adopted);
    all = bitmaps(&p, NULL);
    g_assert_cmpuint(all->len, ==, 2);
    g_assert_cmpstr(bitmap_at(all, 0)->name, ==, "b\xc3\xa4");
    g_assert_cmpstr(bitmap_at(all, 0)->uuid, ==, b.uuid);
    g_assert_cmpstr(bitmap_at(all, 0)->inconsistent, ==, "because\xef\xbf\xbd"); /* U+FFFD */
    g_assert_false(bitmap_at(all, 0)->recording);
    g_assert_true(bitmap_at(all, 0)->sealed);
    g_assert_cmphex(bitmap_at(all, 0)->crc, ==, 0xfedcba98);
    g_assert_cmpuint(bitmap_at(all, 1)->granularity, ==, 65536);
    g_assert_cmpstr(bitmap_at(all, 1)->inconsistent, ==, NULL);
    place_end(&p);
}

static void test_folder_row(void)
{
    struct catalogue_folder f, g;
    struct place p = {NULL};

    place_begin(&p);
    g_assert_cmpint(catalogue_folder(p.c, &f, NULL), ==, 0);
    g_assert_true(g_uuid_string_is_valid(f.uuid));
    g_assert_false(f.open || f.failed);
    f.open = f.failed = true;
    f.mount_id = UINT64_MAX - 4;
    strcpy(f.machine_id, "0123456789abcdef0123456789abcdef");
    strcpy(f.boot_id, f.uuid);
    begin(&p);
    g_assert_cmpint(catalogue_put_folder(p.c, &f, NULL), ==, 0);
    commit(&p);
    close_catalogue(&p);
    open_catalogue(&p);
    g_assert_cmpint(catalogue_folder(p.c, &g, NULL), ==, 0);
    g_assert_cmpstr(g.uuid, ==, f.uuid);
    g_assert_cmpstr(g.boot_id, ==, f.boot_id);
    g_assert_cmpstr(g.machine_id, ==, f.machine_id);
    g_assert_true(g.open && g.failed && g.mount_id == f.mount_id);
    place_end(&p);
}

/* A row that exists is changed in its place; ids are never used again. */
static void test_changes(void)
{
    struct catalogue_bitmap b;
    struct place p = {NULL};
    int64_t disk, first, last;

    place_begin(&p);
    begin(&p);
    disk = put_disk(&p, "a");
    first = put_bitmap(&p, disk, "b0");
    last = put_bitmap(&p, disk, "b1");
    commit(&p);
    begin(&p);
    b = bitmap_of(disk, "other");
    b.id = first;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, 0);
    g_assert_cmpint(catalogue_remove_bitmap(p.c, last, NULL), ==, 0);
    g_assert_cmpint(catalogue_remove_bitmap(p.c, last, NULL), ==, 0);
    commit(&p);
    assert_bitmaps(&p, "other ");
    close_catalogue(&p);
    open_catalogue(&p);
    begin(&p);
    g_assert_cmpint(put_bitmap(&p, disk, "b2"), >, last);
    commit(&p);
    assert_bitmaps(&p, "other b2 ");
    begin(&p);
    g_assert_cmpint(catalogue_remove_disk(p.c, disk, NULL), ==, 0);
    g_assert_cmpint(put_disk(&p, "a"), >, disk);
    commit(&p);
    assert_bitmaps(&p, "");
    place_end(&p);
}

static void test_rollback(void)
{
    struct place p = {NULL};
    int64_t disk;

    place_begin(&p);
    begin(&p);
    disk = put_disk(&p, "a");
    put_bitmap(&p, disk, "b0");
    commit(&p);
    begin(&p);
    put_bitmap(&p, disk, "b1");
    assert_bitmaps(&p, "b0 b1 ");
    catalogue_rollback(p.c);
    assert_bitmaps(&p, "b0 ");
    begin(&p);
    put_bitmap(&p, disk, "b2");
    close_catalogue(&p); /* as at the death of the process */
    open_catalogue(&p);
    assert_bitmaps(&p, "b0 ");
    begin(&p);
    commit(&p);
    g_assert_cmpint(catalogue_put_disk(p.c,
                                       &(struct catalogue_disk){.name = (char *)"x",
                                                                .image = (char *)"",
                                                                .content = (char *)""},
                                       NULL),
                    ==, -1); /* no transaction */
    place_end(&p);
}

/* A log that somebody cuts short later has nothing to lose. */
static void test_log(void)
{
    g_autofree char *log = NULL;
    struct place p = {NULL};
    struct stat st;

    place_begin(&p);
    begin(&p);
    put_bitmap(&p, put_disk(&p, "a"), "b");
    commit(&p);
    log = file_path(&p, STATE_CATALOGUE "-wal");
    g_assert_cmpint(stat(log, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 0);
    place_end(&p);
}

/* Two of one name: refused at the end of the transaction, not before. */
static void test_names(void)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_bitmap b;
    struct place p = {NULL};
    int64_t disk, id;

    place_begin(&p);
    begin(&p);
    disk = put_disk(&p, "a");
    id = put_bitmap(&p, disk, "b");
    commit(&p);
    begin(&p);
    put_bitmap(&p, disk, "b");
    g_assert_cmpint(catalogue_remove_bitmap(p.c, id, NULL), ==, 0);
    commit(&p);
    begin(&p);
    put_bitmap(&p, disk, "b");
    g_assert_cmpint(catalogue_commit(p.c, NULL, &err), ==, -1);
    g_assert_true(g_str_has_suffix(err->message, "'b' would be there twice"));
    assert_bitmaps(&p, "b ");
    begin(&p);
    b = bitmap_of(disk, "b\xff");
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, -1);
    b = bitmap_of(disk, "x");
    b.granularity = 1000;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, -1);
    b = bitmap_of(disk, "y");
    b.size = UINT64_MAX;
    g_assert_cmpint(catalogue_put_bitmap(p.c, &b, NULL), ==, -1);
    commit(&p);
    assert_bitmaps(&p, "b ");
    place_end(&p);
}

/* ---- versions and other files ---- */

static void test_versions(void)
{
    struct place p = {NULL};

    place_begin(&p);
    begin(&p);
    put_bitmap(&p, put_disk(&p, "a"), "b");
    commit(&p);
    close_catalogue(&p);
    run_sql(&p, "PRAGMA user_version = 9");
    assert_refused(&p, "state: %s: made by a newer version (format 9; this one knows up to 2)");
    run_sql(&p, "PRAGMA user_version = 0");
    assert_refused(&p, "state: %s/catalogue.db: this is no catalogue of nbdfleece");
    run_sql(&p, "PRAGMA user_version = 2; PRAGMA application_id = 5");
    assert_refused(&p, "state: %s/catalogue.db: this is no catalogue of nbdfleece");
    place_end(&p);
}

static void test_upgrade(void)
{
    struct place p = {NULL};

    place_begin(&p);
    begin(&p);
    put_bitmap(&p, put_disk(&p, "a"), "b");
    commit(&p);
    close_catalogue(&p);
    run_sql(&p, "DROP TABLE checkpoint_bitmaps; DROP TABLE checkpoints; DROP TABLE sessions;"
                "PRAGMA user_version = 1");
    open_catalogue(&p);
    assert_bitmaps(&p, "b ");
    close_catalogue(&p);
    run_sql(&p, "INSERT INTO checkpoints (disk, name) SELECT id, 'c' FROM disks;"
                "INSERT INTO checkpoint_bitmaps (checkpoint, bitmap) SELECT 1, id FROM bitmaps;"
                "SELECT * FROM sessions");
    open_catalogue(&p);
    /* What refers to a bitmap goes with it. */
    begin(&p);
    g_assert_cmpint(catalogue_remove_disk(p.c, 1, NULL), ==, 0);
    commit(&p);
    /* A step that fails leaves all as it was. */
    close_catalogue(&p);
    run_sql(&p, "DROP TABLE checkpoint_bitmaps; PRAGMA user_version = 1");
    g_assert_null(catalogue_open(p.s, NULL));
    run_sql(&p, "DROP TABLE checkpoints; DROP TABLE sessions");
    open_catalogue(&p);
    place_end(&p);
}

static void write_file(struct place *p, const char *name, const char *bytes, size_t length)
{
    g_autofree char *path = file_path(p, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, bytes, length), ==, (ssize_t)length);
    close(fd);
}

static void test_other_files(void)
{
    struct place p = {NULL};
    g_autofree char *bits = NULL, *catalogue = NULL, *file = NULL;
    char page[4096] = {1};

    place_begin(&p);
    close_catalogue(&p);
    write_file(&p, STATE_CATALOGUE, page, sizeof page);
    assert_refused(&p, "state: %s/catalogue.db: it is damaged: file is not a database");
    write_file(&p, STATE_CATALOGUE, "", 0);
    assert_refused(&p, "state: %s/catalogue.db: it is damaged: it is cut short");
    /* A catalogue that is gone is not replaced by an empty one. */
    catalogue = file_path(&p, STATE_CATALOGUE);
    bits = file_path(&p, "bits");
    file = file_path(&p, "bits/x");
    g_assert_cmpint(unlink(catalogue), ==, 0);
    g_assert_cmpint(mkdir(bits, 0700), ==, 0);
    write_file(&p, "bits/x", page, sizeof page);
    assert_refused(&p, "state: %s/catalogue.db: it is missing, and the folder has other files of a "
                       "state folder: restore it, or begin with a new folder");
    g_assert_cmpint(unlink(file), ==, 0);
    /* What the beginning of a making has left does no harm. */
    write_file(&p, "catalogue.new", page, sizeof page);
    open_catalogue(&p);
    place_end(&p);
}

/* ---- damage ---- */

/* Rows as they are in the good database. */
struct sample {
    struct place p;
    char *bytes;
    size_t length;
    GArray *disks, *bitmaps;
};

static void sample_begin(struct sample *m)
{
    g_autofree char *path = NULL;

    m->p = (struct place){NULL};
    place_begin(&m->p);
    begin(&m->p);
    for (unsigned i = 0; i < 3; i++) {
        char name[] = {'d', (char)('0' + i), '\0'};
        int64_t disk = put_disk(&m->p, name);

        for (unsigned j = 0; j < 12; j++) {
            char bitmap[] = {'b', (char)('a' + j), '\0'};

            put_bitmap(&m->p, disk, bitmap);
        }
    }
    commit(&m->p);
    m->disks = disks(&m->p, NULL);
    m->bitmaps = bitmaps(&m->p, NULL);
    close_catalogue(&m->p);
    path = file_path(&m->p, STATE_CATALOGUE);
    g_assert_true(g_file_get_contents(path, &m->bytes, &m->length, NULL));
}

static void sample_end(struct sample *m)
{
    place_end(&m->p);
    g_array_unref(m->disks);
    g_array_unref(m->bitmaps);
    g_free(m->bytes);
}

static bool same_bitmap(const struct catalogue_bitmap *a, const struct catalogue_bitmap *b)
{
    return a->id == b->id && a->disk == b->disk && strcmp(a->name, b->name) == 0 &&
           strcmp(a->uuid, b->uuid) == 0 && a->granularity == b->granularity &&
           a->size == b->size && a->recording == b->recording && a->sealed == b->sealed &&
           a->crc == b->crc;
}

static bool same_disk(const struct catalogue_disk *a, const struct catalogue_disk *b)
{
    return a->id == b->id && strcmp(a->name, b->name) == 0 && a->size == b->size &&
           a->state == b->state && strcmp(a->image, b->image) == 0 &&
           strcmp(a->content, b->content) == 0 && a->resize_to == b->resize_to &&
           a->changed_until == b->changed_until && a->adopted == b->adopted;
}

/* A good bitmap is one that there was; where one is missing, a sentence says so. */
static void judge_bitmaps(struct sample *m, GArray *found, unsigned n_sentences)
{
    unsigned good = 0;

    for (unsigned i = 0; i < found->len; i++) {
        struct catalogue_bitmap *b = bitmap_at(found, i);
        bool known = false;

        g_assert_true(g_utf8_validate(b->name, -1, NULL) && g_uuid_string_is_valid(b->uuid));
        if (b->inconsistent)
            continue;
        for (unsigned j = 0; j < m->bitmaps->len && !known; j++)
            known = same_bitmap(b, bitmap_at(m->bitmaps, j));
        g_assert_true(known);
        good++;
    }
    if (good < m->bitmaps->len)
        g_assert_cmpuint(n_sentences, >, 0);
}

static void judge_disks(struct sample *m, GArray *found, unsigned n_sentences)
{
    unsigned good = 0;

    for (unsigned i = 0; i < found->len; i++) {
        bool known = false;

        for (unsigned j = 0; j < m->disks->len && !known; j++)
            known = same_disk(disk_at(found, i), disk_at(m->disks, j));
        good += known;
    }
    if (good < m->disks->len)
        g_assert_cmpuint(n_sentences, >, 0);
}

/* The result of reading a damaged file. */
enum result { REFUSED, MENDED, GOOD, RESULTS };

/* Open the file with these bytes. Damage that is found is found again by the next one that opens
 * it, until the first transaction has written anew what was damaged. */
static enum result try_bytes(struct sample *m, const char *bytes, size_t length)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    g_autoptr(GArray) all_disks = NULL, all = NULL, after = NULL;
    struct place *p = &m->p;

    write_file(p, STATE_CATALOGUE, bytes, length);
    p->c = catalogue_open(p->s, NULL);
    if (!p->c)
        return REFUSED;
    all_disks = catalogue_disks(p->c, damaged, NULL);
    all = catalogue_bitmaps(p->c, damaged, NULL);
    if (all_disks && all) {
        judge_disks(m, all_disks, damaged->len);
        judge_bitmaps(m, all, damaged->len);
    }
    if (all && all_disks && catalogue_begin(p->c, NULL) == 0 &&
        catalogue_commit(p->c, NULL, NULL) == 0) {
        close_catalogue(p);
        open_catalogue(p);
        after = bitmaps(p, NULL);
        g_assert_cmpuint(after->len, ==, all->len);
        for (unsigned i = 0; i < all->len; i++) {
            g_assert_cmpstr(bitmap_at(after, i)->name, ==, bitmap_at(all, i)->name);
            g_assert_cmpstr(bitmap_at(after, i)->inconsistent, ==, bitmap_at(all, i)->inconsistent);
        }
    }
    close_catalogue(p);
    return !all || !all_disks ? REFUSED : damaged->len > 0 ? MENDED : GOOD;
}

/* Some of the bytes, above all of those that are not 0, each with one bit flipped. */
static void test_flipped_bits(void)
{
    int often = g_getenv("FLEECE_LONG") ? 1 : 8;
    unsigned results[RESULTS] = {0};
    struct sample m;

    sample_begin(&m);
    for (size_t i = 0; i < m.length; i++) {
        unsigned bit = (unsigned)g_test_rand_int_range(0, 8);

        if (g_test_rand_int_range(0, m.bytes[i] == 0 ? 512 : often) != 0)
            continue;
        m.bytes[i] ^= (char)(1 << bit);
        results[try_bytes(&m, m.bytes, m.length)]++;
        m.bytes[i] ^= (char)(1 << bit);
    }
    g_test_message("%u refused, %u with damaged rows, %u as good as before", results[REFUSED],
                   results[MENDED], results[GOOD]);
    g_assert_cmpuint(results[REFUSED], >, 0);
    g_assert_cmpuint(results[MENDED], >, 0);
    sample_end(&m);
}

static void test_cut_short(void)
{
    struct sample m;

    sample_begin(&m);
    while (m.bytes[m.length - 1] == 0) /* the end of the last page says nothing */
        m.length--;
    for (size_t length = 0; length < m.length; length += 512)
        g_assert_cmpint(try_bytes(&m, m.bytes, length), ==, REFUSED);
    g_assert_cmpint(try_bytes(&m, m.bytes, m.length), ==, GOOD);
    sample_end(&m);
}

/* What a table as a whole has lost, although each row that is left is good. */
static void test_lost_rows(void)
{
    static const struct {
        const char *sql, *sentence;
    } cases[] = {
        {"DELETE FROM bitmaps WHERE id = 5",
         "the catalogue has lost rows of its bitmaps: it has 35 of 36"},
        {"UPDATE bitmaps SET (name, crc) = (SELECT name, crc FROM old.bitmaps WHERE id = 7)"
         " WHERE id = 7",
         "rows of the catalogue's bitmaps are out of date"},
    };
    g_autoptr(GArray) rows = NULL;
    struct sample m;

    sample_begin(&m);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GPtrArray) damaged = sentences_new();
        g_autoptr(GArray) all = NULL;
        g_autofree char *sql = NULL;
        struct catalogue_bitmap b;

        write_file(&m.p, STATE_CATALOGUE, m.bytes, m.length);
        /* The row changes; what it was comes back. */
        open_catalogue(&m.p);
        begin(&m.p);
        b = *bitmap_at(m.bitmaps, 6);
        b.name = (char *)"new";
        g_assert_cmpint(catalogue_put_bitmap(m.p.c, &b, NULL), ==, 0);
        commit(&m.p);
        close_catalogue(&m.p);
        write_file(&m.p, "old.db", m.bytes, m.length);
        sql = g_strdup_printf("ATTACH '%s/old.db' AS old; %s", m.p.folder, cases[i].sql);
        run_sql(&m.p, sql);
        open_catalogue(&m.p);
        all = bitmaps(&m.p, damaged);
        g_assert_cmpuint(damaged->len, ==, 1);
        g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==, cases[i].sentence);
        for (unsigned j = 0; j < all->len; j++)
            g_assert_cmpstr(bitmap_at(all, j)->inconsistent, ==,
                            "rows of the catalogue are missing or out of date");
        /* Which is written with the first transaction. */
        begin(&m.p);
        catalogue_rollback(m.p.c);
        close_catalogue(&m.p);
        open_catalogue(&m.p);
        begin(&m.p);
        commit(&m.p);
        close_catalogue(&m.p);
        open_catalogue(&m.p);
        g_array_unref(all);
        g_ptr_array_set_size(damaged, 0);
        all = bitmaps(&m.p, damaged);
        g_assert_cmpuint(damaged->len, ==, 0);
        g_assert_nonnull(bitmap_at(all, 0)->inconsistent);
        close_catalogue(&m.p);
    }
    sample_end(&m);
}

/* A bitmap of a damaged disk's row is inconsistent, and stays so when the disk's row is good again. */
static void test_damaged_disk(void)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    g_autoptr(GArray) all = NULL, all_disks = NULL, after = NULL;
    struct sample m;

    sample_begin(&m);
    run_sql(&m.p, "UPDATE disks SET size = 5 WHERE name = 'd1'");
    open_catalogue(&m.p);
    all_disks = disks(&m.p, damaged);
    g_assert_cmpuint(damaged->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==,
                    "disk 'd1': its row in the catalogue is damaged");
    all = bitmaps(&m.p, damaged);
    g_assert_cmpuint(damaged->len, ==, 1);
    begin(&m.p);
    g_assert_cmpint(catalogue_put_disk(m.p.c, disk_at(all_disks, 1), NULL), ==, 0);
    commit(&m.p);
    close_catalogue(&m.p);
    open_catalogue(&m.p);
    after = bitmaps(&m.p, damaged);
    g_assert_cmpuint(damaged->len, ==, 1);
    for (unsigned i = 0; i < after->len; i++) {
        g_assert_cmpstr(bitmap_at(all, i)->inconsistent, ==, bitmap_at(after, i)->inconsistent);
        g_assert_cmpint(bitmap_at(after, i)->inconsistent != NULL, ==,
                        bitmap_at(after, i)->disk == disk_at(all_disks, 1)->id);
    }
    sample_end(&m);
}

static void test_verify(void)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    struct sample m;

    sample_begin(&m);
    run_sql(&m.p, "DELETE FROM disks WHERE name = 'd1'");
    open_catalogue(&m.p);
    g_assert_cmpint(catalogue_verify(m.p.c, damaged, NULL), ==, 0);
    g_assert_cmpuint(damaged->len, ==, 12);
    g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==,
                    "the catalogue: a row of its bitmaps refers to one that is missing");
    sample_end(&m);
}

int main(int argc, char **argv)
{
    if (access("/dev/shm", W_OK) == 0) /* where syncs cost nothing */
        g_setenv("TMPDIR", "/dev/shm", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/catalogue/rows", test_rows);
    g_test_add_func("/catalogue/folder", test_folder_row);
    g_test_add_func("/catalogue/changes", test_changes);
    g_test_add_func("/catalogue/rollback", test_rollback);
    g_test_add_func("/catalogue/log", test_log);
    g_test_add_func("/catalogue/names", test_names);
    g_test_add_func("/catalogue/versions", test_versions);
    g_test_add_func("/catalogue/upgrade", test_upgrade);
    g_test_add_func("/catalogue/other-files", test_other_files);
    g_test_add_func("/catalogue/flipped-bits", test_flipped_bits);
    g_test_add_func("/catalogue/cut-short", test_cut_short);
    g_test_add_func("/catalogue/lost-rows", test_lost_rows);
    g_test_add_func("/catalogue/damaged-disk", test_damaged_disk);
    g_test_add_func("/catalogue/verify", test_verify);
    return g_test_run();
}
