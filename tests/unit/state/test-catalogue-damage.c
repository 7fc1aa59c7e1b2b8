/* SPDX-License-Identifier: BSD-3-Clause */
/* Catalogues that were damaged while nobody used them. */
#include "common/state/folder.h"
#include "tests/rigs/catalogue-rig.h"

#include <string.h>

/* Rows as they are in the good database. */
struct sample {
    struct catalogue_rig p;
    char *bytes;
    size_t length;
    GArray *disks, *bitmaps, *records;
};

static void sample_begin(struct sample *m)
{
    g_autofree char *path = NULL;

    m->p = (struct catalogue_rig){NULL};
    catalogue_rig_begin(&m->p);
    catalogue_rig_transaction(&m->p);
    for (unsigned i = 0; i < 3; i++) {
        char name[] = {'d', (char)('0' + i), '\0'};
        int64_t disk = catalogue_rig_put_disk(&m->p, name);

        for (unsigned j = 0; j < 12; j++) {
            char bitmap[] = {'b', (char)('a' + j), '\0'};

            catalogue_rig_put_bitmap(&m->p, disk, bitmap);
        }
        catalogue_rig_put_record(&m->p, "checkpoint", name, "{\"some\": [\"text\"]}");
        catalogue_rig_put_record(&m->p, "session", name, "text");
    }
    catalogue_rig_commit(&m->p);
    m->disks = catalogue_rig_disks(&m->p, NULL);
    m->bitmaps = catalogue_rig_bitmaps(&m->p, NULL);
    m->records = catalogue_rig_records(&m->p, NULL);
    catalogue_rig_close(&m->p);
    path = catalogue_rig_path(&m->p, STATE_CATALOGUE);
    g_assert_true(g_file_get_contents(path, &m->bytes, &m->length, NULL));
}

static void sample_end(struct sample *m)
{
    catalogue_rig_end(&m->p);
    g_array_unref(m->disks);
    g_array_unref(m->bitmaps);
    g_array_unref(m->records);
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

static bool same_record(const struct catalogue_record *a, const struct catalogue_record *b)
{
    return a->id == b->id && strcmp(a->kind, b->kind) == 0 && strcmp(a->name, b->name) == 0 &&
           strcmp(a->text, b->text) == 0;
}

/* All that are found are as they were. */
static void judge_records(struct sample *m, GArray *found, unsigned n_sentences)
{
    for (unsigned i = 0; i < found->len; i++) {
        bool known = false;

        for (unsigned j = 0; j < m->records->len && !known; j++)
            known = same_record(record_at(found, i), record_at(m->records, j));
        g_assert_true(known);
    }
    if (found->len < m->records->len)
        g_assert_cmpuint(n_sentences, >, 0);
}

/* The result of reading a damaged file. */
enum result { REFUSED, MENDED, GOOD, RESULTS };

static unsigned n_tried; /* files, in all tests */

/* Open the file with these bytes. Damage that is found is found again by the next one that opens
 * it, until the first transaction has written anew what was damaged. */
static enum result try_bytes(struct sample *m, const char *bytes, size_t length)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    g_autoptr(GArray) all_disks = NULL, all = NULL, records = NULL, after = NULL;
    g_autoptr(GArray) records_after = NULL;
    struct catalogue_rig *p = &m->p;

    n_tried++;
    catalogue_rig_write_file(p, STATE_CATALOGUE, bytes, length);
    p->c = catalogue_open(p->s, NULL);
    if (!p->c)
        return REFUSED;
    all_disks = catalogue_disks(p->c, damaged, NULL);
    all = catalogue_bitmaps(p->c, damaged, NULL);
    records = catalogue_records(p->c, damaged, NULL);
    if (all_disks && all && records) {
        judge_disks(m, all_disks, damaged->len);
        judge_bitmaps(m, all, damaged->len);
        judge_records(m, records, damaged->len);
    }
    if (all && all_disks && records && catalogue_begin(p->c, NULL) == 0 &&
        catalogue_commit(p->c, NULL, NULL) == 0) {
        catalogue_rig_close(p);
        catalogue_rig_open(p);
        after = catalogue_rig_bitmaps(p, NULL);
        records_after = catalogue_rig_records(p, NULL);
        g_assert_cmpuint(records_after->len, ==, records->len);
        g_assert_cmpuint(after->len, ==, all->len);
        for (unsigned i = 0; i < all->len; i++) {
            g_assert_cmpstr(bitmap_at(after, i)->name, ==, bitmap_at(all, i)->name);
            g_assert_cmpstr(bitmap_at(after, i)->inconsistent, ==, bitmap_at(all, i)->inconsistent);
        }
    }
    catalogue_rig_close(p);
    return !all || !all_disks || !records ? REFUSED : damaged->len > 0 ? MENDED : GOOD;
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
    for (size_t length = 0; length < m.length; length += 512) {
        enum result result = try_bytes(&m, m.bytes, length);

        /* SQLite may have no use for the last page. */
        if (length + 4096 <= m.length || result != GOOD)
            g_assert_cmpint(result, ==, REFUSED);
    }
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
        {"DELETE FROM records WHERE id = 2",
         "the catalogue has lost rows of its records: it has 5 of 6"},
    };
    g_autoptr(GArray) rows = NULL;
    struct sample m;

    sample_begin(&m);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GPtrArray) damaged = sentences_new();
        g_autoptr(GArray) all = NULL;
        g_autofree char *sql = NULL;
        struct catalogue_bitmap b;

        catalogue_rig_write_file(&m.p, STATE_CATALOGUE, m.bytes, m.length);
        /* The row changes; what it was comes back. */
        catalogue_rig_open(&m.p);
        catalogue_rig_transaction(&m.p);
        b = *bitmap_at(m.bitmaps, 6);
        b.name = (char *)"new";
        g_assert_cmpint(catalogue_put_bitmap(m.p.c, &b, NULL), ==, 0);
        catalogue_rig_commit(&m.p);
        catalogue_rig_close(&m.p);
        catalogue_rig_write_file(&m.p, "old.db", m.bytes, m.length);
        sql = g_strdup_printf("ATTACH '%s/old.db' AS old; %s", m.p.folder, cases[i].sql);
        catalogue_rig_run_sql(&m.p, sql);
        catalogue_rig_open(&m.p);
        all = catalogue_rig_bitmaps(&m.p, damaged);
        g_array_unref(catalogue_rig_records(&m.p, damaged));
        g_assert_cmpuint(damaged->len, ==, 1);
        g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==, cases[i].sentence);
        for (unsigned j = 0; j < all->len; j++)
            g_assert_cmpstr(bitmap_at(all, j)->inconsistent, ==,
                            "rows of the catalogue are missing or out of date");
        /* Which is written with the first transaction. */
        catalogue_rig_transaction(&m.p);
        catalogue_rollback(m.p.c);
        catalogue_rig_close(&m.p);
        catalogue_rig_open(&m.p);
        catalogue_rig_transaction(&m.p);
        catalogue_rig_commit(&m.p);
        catalogue_rig_close(&m.p);
        catalogue_rig_open(&m.p);
        g_array_unref(all);
        g_ptr_array_set_size(damaged, 0);
        all = catalogue_rig_bitmaps(&m.p, damaged);
        g_assert_cmpuint(damaged->len, ==, 0);
        g_assert_nonnull(bitmap_at(all, 0)->inconsistent);
        catalogue_rig_close(&m.p);
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
    catalogue_rig_run_sql(&m.p, "UPDATE disks SET size = 5 WHERE name = 'd1'");
    catalogue_rig_open(&m.p);
    all_disks = catalogue_rig_disks(&m.p, damaged);
    g_assert_cmpuint(damaged->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==,
                    "disk 'd1': its row in the catalogue is damaged");
    all = catalogue_rig_bitmaps(&m.p, damaged);
    g_assert_cmpuint(damaged->len, ==, 1);
    catalogue_rig_transaction(&m.p);
    g_assert_cmpint(catalogue_put_disk(m.p.c, disk_at(all_disks, 1), NULL), ==, 0);
    catalogue_rig_commit(&m.p);
    catalogue_rig_close(&m.p);
    catalogue_rig_open(&m.p);
    after = catalogue_rig_bitmaps(&m.p, damaged);
    g_assert_cmpuint(damaged->len, ==, 1);
    for (unsigned i = 0; i < after->len; i++) {
        g_assert_cmpstr(bitmap_at(all, i)->inconsistent, ==, bitmap_at(after, i)->inconsistent);
        g_assert_cmpint(bitmap_at(after, i)->inconsistent != NULL, ==,
                        bitmap_at(after, i)->disk == disk_at(all_disks, 1)->id);
    }
    sample_end(&m);
}

/* One that cannot be read says nothing about bitmaps. It is gone with the first transaction. */
static void test_damaged_record(void)
{
    static const char *const damages[] = {
        "UPDATE records SET text = 'other' WHERE name = 'd1' AND kind = 'session'",
        "UPDATE records SET text = NULL WHERE name = 'd1' AND kind = 'session'",
        "UPDATE records SET crc = 5 WHERE name = 'd1' AND kind = 'session'",
        /* no other row has lost its checksum */
        "UPDATE records SET crc = (SELECT crc FROM records WHERE id = 1) WHERE id = 4",
    };
    struct sample m;

    sample_begin(&m);
    for (size_t i = 0; i < G_N_ELEMENTS(damages); i++) {
        g_autoptr(GPtrArray) damaged = sentences_new();
        g_autoptr(GArray) records = NULL;

        catalogue_rig_write_file(&m.p, STATE_CATALOGUE, m.bytes, m.length);
        catalogue_rig_run_sql(&m.p, damages[i]);
        catalogue_rig_open(&m.p);
        records = catalogue_rig_records(&m.p, damaged);
        g_assert_cmpuint(records->len, ==, 5);
        g_assert_cmpuint(damaged->len, ==, 1);
        g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==,
                        "session 'd1' (row 4 of the records): its row in the catalogue is damaged");
        for (unsigned open = 0; open < 2; open++) {
            g_autoptr(GArray) bitmaps = catalogue_rig_bitmaps(&m.p, damaged);

            g_assert_cmpuint(damaged->len, ==, 1);
            for (unsigned k = 0; k < bitmaps->len; k++)
                g_assert_null(bitmap_at(bitmaps, k)->inconsistent);
            catalogue_rig_transaction(&m.p);
            catalogue_rig_commit(&m.p);
            catalogue_rig_close(&m.p);
            catalogue_rig_open(&m.p);
        }
        catalogue_rig_assert_records(&m.p, "checkpoint/d0={\"some\": [\"text\"]} session/d0=text "
                                           "checkpoint/d1={\"some\": [\"text\"]} "
                                           "checkpoint/d2={\"some\": [\"text\"]} session/d2=text ");
        catalogue_rig_close(&m.p);
    }
    sample_end(&m);
}

static void test_verify(void)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    struct sample m;

    sample_begin(&m);
    catalogue_rig_run_sql(&m.p, "DELETE FROM disks WHERE name = 'd1'");
    catalogue_rig_open(&m.p);
    g_assert_cmpint(catalogue_verify(m.p.c, damaged, NULL), ==, 0);
    g_assert_cmpuint(damaged->len, ==, 12);
    g_assert_cmpstr(g_ptr_array_index(damaged, 0), ==,
                    "the catalogue: a row of its bitmaps refers to one that is missing");
    sample_end(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/catalogue-damage/flipped-bits", test_flipped_bits);
    g_test_add_func("/catalogue-damage/cut-short", test_cut_short);
    g_test_add_func("/catalogue-damage/lost-rows", test_lost_rows);
    g_test_add_func("/catalogue-damage/damaged-disk", test_damaged_disk);
    g_test_add_func("/catalogue-damage/damaged-record", test_damaged_record);
    g_test_add_func("/catalogue-damage/verify", test_verify);
    int code = g_test_run();
    g_print("# corrupted files: %u\n", n_tried);
    return code;
}
