/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-tally.h"

#include "common/state/catalogue-rows.h"
#include "common/state/catalogue-sql.h"
#include "common/state/catalogue.h"
#include "common/state/folder.h"
#include "common/util/error.h"

#include <inttypes.h>
#include <string.h>

/* So many ids are left out where it is not known which were used. */
#define IDS_LOST (INT64_C(1) << 32)

/* ---- the counts ---- */

/* Read the row of the counts. 1: it is good. */
static int read_tallies(struct catalogue *c, struct tally tallies[TALLIES], GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = row_select(c, &tally_table, err);
    unsigned i = 0;
    bool good = true;
    int got = -1;

    while (statement && (got = sql_step(c, statement, err)) > 0 && i < TALLIES) {
        uint32_t crc;

        memset(&tallies[i], 0, sizeof tallies[i]);
        good = row_read(&tally_table, statement, &tallies[i], &crc) && good &&
               tallies[i].id == (int64_t)i + 1;
        i++;
    }
    if (got < 0)
        return -1;
    return good && got == 0 && i == TALLIES;
}

/* Compare a table with its counts. Where a row is damaged, its checksum may be what is damaged in
 * it, so that only their number tells. */
static void compare(struct catalogue *c, unsigned which, const struct tally *said,
                    const struct contents *k)
{
    const struct tally *found = &k->found[which];
    const char *name = catalogue_tables[which].name;

    if (found->rows == said->rows && (found->sum == said->sum || k->damaged[which]))
        return;
    c->sick = c->distrusted = true;
    if (found->rows != said->rows)
        c->complaint[which] =
            g_strdup_printf("the catalogue has lost rows of its %s: it has %" PRId64 " of %" PRId64,
                            name, found->rows, said->rows);
    else
        c->complaint[which] = g_strdup_printf("rows of the catalogue's %s are out of date", name);
}

/* The counts are lost: the rows are taken for what they say. */
static void count_anew(struct catalogue *c, const struct contents *k)
{
    c->sick = true;
    for (unsigned i = 0; i < TALLIES; i++) {
        c->tallies[i] = k->found[i];
        c->tallies[i].next += IDS_LOST;
    }
    c->complaint[OF_DISKS] = g_strdup("the counts of the catalogue's rows are damaged");
}

static int check_contents(struct catalogue *c, const struct contents *k, GError **err)
{
    struct tally said[TALLIES];
    int good = read_tallies(c, said, err);

    if (good < 0)
        return -1;
    c->sick = false;
    for (unsigned i = 0; i < TALLIES; i++)
        c->sick |= k->damaged[i];
    if (good == 0) {
        count_anew(c, k);
        return 0;
    }
    for (unsigned i = 0; i < TALLIES; i++) {
        compare(c, i, &said[i], k);
        c->tallies[i] = k->found[i];
        c->tallies[i].next = MAX(said[i].next, k->found[i].next);
    }
    return 0;
}

int tally_check(struct catalogue *c, GError **err)
{
    GPtrArray *nobody[TALLIES] = {NULL};
    struct contents k;
    int result = contents_load(c, &k, nobody, err);

    if (result == 0)
        result = check_contents(c, &k, err);
    contents_clear(&k);
    return result;
}

int tally_write(struct catalogue *c, GError **err)
{
    uint32_t crc;

    for (unsigned i = 0; i < TALLIES; i++)
        if (row_write(c, &tally_table, &c->tallies[i], &crc, err) < 0)
            return -1;
    return 0;
}

/* ---- changes ---- */

static void add(struct tally *t, int64_t rows, int64_t crc)
{
    t->rows += rows;
    t->sum = (int64_t)((uint64_t)t->sum + (uint64_t)crc);
}

/* Write a row that has an id. */
static int put_row(struct catalogue *c, unsigned which, int64_t id, const void *row, GError **err)
{
    const struct table *t = &catalogue_tables[which];
    uint32_t old, new;
    int there = row_crc(c, t, id, &old, err);

    if (there < 0 || row_write(c, t, row, &new, err) < 0)
        return -1;
    if (there > 0)
        add(&c->tallies[which], -1, -(int64_t)old);
    add(&c->tallies[which], 1, new);
    if (id >= c->tallies[which].next)
        c->tallies[which].next = id < INT64_MAX ? id + 1 : id;
    return 0;
}

static int remove_row(struct catalogue *c, unsigned which, int64_t id, GError **err)
{
    const struct table *t = &catalogue_tables[which];
    uint32_t old;
    int there = row_crc(c, t, id, &old, err);

    if (there <= 0)
        return there;
    if (row_delete(c, t, id, err) < 0)
        return -1;
    add(&c->tallies[which], -1, -(int64_t)old);
    return 0;
}

/* Write a row; *id is its member, 0: a new one. */
static int put(struct catalogue *c, unsigned which, void *row, int64_t *id, const char *misfit,
               GError **err)
{
    int64_t given = *id;

    if (misfit)
        return fail(err, "state: %s/" STATE_CATALOGUE ": a row of its %s cannot be written: %s",
                    c->s->path, catalogue_tables[which].name, misfit);
    if (sql_check_transaction(c, err) < 0)
        return -1;
    if (given == 0)
        *id = c->tallies[which].next;
    if (put_row(c, which, *id, row, err) == 0)
        return 0;
    *id = given;
    return -1;
}

int catalogue_put_disk(struct catalogue *c, struct catalogue_disk *d, GError **err)
{
    return put(c, OF_DISKS, d, &d->id, disk_misfit(d), err);
}

/* A reason may name a file, whose path need not be UTF-8. */
int catalogue_put_bitmap(struct catalogue *c, struct catalogue_bitmap *b, GError **err)
{
    g_autofree char *reason = b->inconsistent ? g_utf8_make_valid(b->inconsistent, -1) : NULL;
    struct catalogue_bitmap copy = *b;

    copy.inconsistent = reason;
    if (put(c, OF_BITMAPS, &copy, &copy.id, bitmap_misfit(&copy), err) < 0)
        return -1;
    b->id = copy.id;
    return 0;
}

int catalogue_put_record(struct catalogue *c, struct catalogue_record *r, GError **err)
{
    return put(c, OF_RECORDS, r, &r->id, record_misfit(r), err);
}

int catalogue_remove_record(struct catalogue *c, int64_t id, GError **err)
{
    return sql_check_transaction(c, err) < 0 ? -1 : remove_row(c, OF_RECORDS, id, err);
}

int catalogue_remove_bitmap(struct catalogue *c, int64_t id, GError **err)
{
    return sql_check_transaction(c, err) < 0 ? -1 : remove_row(c, OF_BITMAPS, id, err);
}

/* The ids of a disk's bitmaps. */
static GArray *bitmaps_of(struct catalogue *c, int64_t disk, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = sql_prepare(c, "SELECT id FROM bitmaps WHERE disk = ?", err);
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(int64_t));
    int got = -1;

    if (statement && sqlite3_bind_int64(statement, 1, disk) != SQLITE_OK) {
        sql_fail(c, "bitmaps", err);
        return NULL;
    }
    while (statement && (got = sql_step(c, statement, err)) > 0) {
        int64_t id = sqlite3_column_int64(statement, 0);

        g_array_append_val(ids, id);
    }
    return got < 0 ? NULL : g_steal_pointer(&ids);
}

int catalogue_remove_disk(struct catalogue *c, int64_t id, GError **err)
{
    g_autoptr(GArray) bitmaps = NULL;

    if (sql_check_transaction(c, err) < 0)
        return -1;
    bitmaps = bitmaps_of(c, id, err);
    if (!bitmaps)
        return -1;
    for (unsigned i = 0; i < bitmaps->len; i++)
        if (remove_row(c, OF_BITMAPS, g_array_index(bitmaps, int64_t, i), err) < 0)
            return -1;
    return remove_row(c, OF_DISKS, id, err);
}

static int remove_strays(struct catalogue *c, const struct contents *k, unsigned which,
                         GError **err)
{
    for (unsigned i = 0; i < k->strays[which]->len; i++)
        if (remove_row(c, which, g_array_index(k->strays[which], int64_t, i), err) < 0)
            return -1;
    return 0;
}

/* Bitmaps first: they refer to disks. */
int catalogue_remove_strays(struct catalogue *c, GError **err)
{
    GPtrArray *nobody[TALLIES] = {NULL};
    struct contents k;
    int result = -1;

    if (sql_check_transaction(c, err) < 0)
        return -1;
    if (contents_load(c, &k, nobody, err) == 0 && remove_strays(c, &k, OF_BITMAPS, err) == 0)
        result = remove_strays(c, &k, OF_DISKS, err);
    if (result == 0)
        result = (int)(k.strays[OF_BITMAPS]->len + k.strays[OF_DISKS]->len);
    contents_clear(&k);
    return result;
}

/* ---- healing ---- */

static int write_mended(struct catalogue *c, const struct contents *k, GError **err)
{
    for (unsigned which = 0; which < TALLIES; which++)
        for (unsigned i = 0; i < k->rows[which]->len; i++) {
            const char *row = k->rows[which]->data + i * catalogue_tables[which].size;
            int64_t id;

            memcpy(&id, row, sizeof id); /* the first member of each */
            if (k->mended[which]->data[i] && put_row(c, which, id, row, err) < 0)
                return -1;
        }
    return 0;
}

int tally_heal(struct catalogue *c, GError **err)
{
    GPtrArray *nobody[TALLIES] = {NULL};
    struct contents k;
    int result = contents_load(c, &k, nobody, err);

    if (result == 0)
        result = write_mended(c, &k, err);
    if (result == 0)
        result = remove_strays(c, &k, OF_RECORDS, err);
    contents_clear(&k);
    return result;
}
