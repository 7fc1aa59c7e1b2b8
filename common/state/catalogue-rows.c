/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-rows.h"

#include "common/state/catalogue-sql.h"
#include "common/state/catalogue.h"
#include "common/state/folder.h"
#include "common/util/error.h"

#include <inttypes.h>
#include <string.h>

#define GRANULARITY 65536 /* of a bitmap whose own is lost */

#define ROW_DAMAGED  "its row in the catalogue is damaged"
#define DISK_DAMAGED "the row of its disk in the catalogue is damaged"
#define DISTRUSTED   "rows of the catalogue are missing or out of date"

/* ---- reading ---- */

static void complain(GPtrArray *damaged, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void complain(GPtrArray *damaged, const char *format, ...)
{
    va_list args;

    if (!damaged)
        return;
    va_start(args, format);
    g_ptr_array_add(damaged, g_strdup_vprintf(format, args));
    va_end(args);
}

static void count(struct tally *found, int64_t id, uint32_t crc)
{
    found->rows++;
    found->sum = (int64_t)((uint64_t)found->sum + crc);
    if (id >= found->next)
        found->next = id < INT64_MAX ? id + 1 : id;
}

/* Read a table as it is: 1 in `mended` marks what is damaged by its checksum. */
static int read_table(struct catalogue *c, struct contents *k, unsigned which, GError **err)
{
    const struct table *t = &catalogue_tables[which];
    SQL_AUTO sqlite3_stmt *statement = row_select(c, t, err);
    g_autofree void *row = g_malloc(t->size);
    int got = -1;

    while (statement && (got = sql_step(c, statement, err)) > 0) {
        uint32_t crc;
        uint8_t bad;

        memset(row, 0, t->size);
        bad = !row_read(t, statement, row, &crc);
        g_array_append_vals(k->rows[which], row, 1);
        g_byte_array_append(k->mended[which], &bad, 1);
        count(&k->found[which], sqlite3_column_int64(statement, 0), crc);
    }
    return got;
}

/* Names of one disk's bitmaps, or of disks (disk 0), and UUIDs. True: nobody had it. Takes the key
 * over. */
static bool claim(GHashTable *taken, char *key)
{
    return g_hash_table_add(taken, key);
}

static bool claim_name(GHashTable *taken, int64_t disk, const char *name)
{
    return claim(taken, g_strdup_printf("%" PRId64 "/%s", disk, name));
}

/* Replace a name that is none or another's. */
static void mend_name(char **name, int64_t disk, int64_t id, GHashTable *taken)
{
    g_autoptr(GString) text = NULL;

    if (catalogue_is_name(*name) && claim_name(taken, disk, *name))
        return;
    text = g_string_new(NULL);
    g_string_printf(text, "damaged-%" PRId64, id);
    while (!claim_name(taken, disk, text->str))
        g_string_append_c(text, '-');
    g_free(*name);
    *name = g_strdup(text->str);
}

static void leave_out(struct contents *k, unsigned which, unsigned i)
{
    int64_t id;

    memcpy(&id, k->rows[which]->data + i * catalogue_tables[which].size, sizeof id); /* first */
    g_array_append_val(k->strays[which], id);
    g_array_remove_index(k->rows[which], i);
    g_byte_array_remove_index(k->mended[which], i);
    k->damaged[which] = true;
}

static struct catalogue_disk *disk_at(const struct contents *k, unsigned i)
{
    return &g_array_index(k->rows[OF_DISKS], struct catalogue_disk, i);
}

static struct catalogue_bitmap *bitmap_at(const struct contents *k, unsigned i)
{
    return &g_array_index(k->rows[OF_BITMAPS], struct catalogue_bitmap, i);
}

/* Nothing is taken from a damaged row as proof of anything. Its bitmaps are inconsistent, and so the
 * image is taken as it is. */
static void mend_disk(struct catalogue_disk *d, GHashTable *taken)
{
    mend_name(&d->name, 0, d->id, taken);
    g_free(d->image);
    g_free(d->content);
    d->image = g_strdup("");
    d->content = g_strdup("");
    d->resize_to = 0;
    d->state = DISK_CRASHED;
    d->changed_until = 0;
    d->adopted = true;
}

static void judge_disks(struct contents *k, GPtrArray *damaged)
{
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint8_t *mended = k->mended[OF_DISKS]->data;

    for (unsigned i = k->rows[OF_DISKS]->len; i-- > 0;)
        if (disk_at(k, i)->id <= 0) {
            complain(damaged, "a disk: " ROW_DAMAGED);
            leave_out(k, OF_DISKS, i);
        }
    /* Good rows get their names first. */
    for (unsigned i = 0; i < k->rows[OF_DISKS]->len; i++)
        if (!mended[i])
            mended[i] = disk_misfit(disk_at(k, i)) || !claim_name(taken, 0, disk_at(k, i)->name);
    for (unsigned i = 0; i < k->rows[OF_DISKS]->len; i++)
        if (mended[i]) {
            mend_disk(disk_at(k, i), taken);
            complain(damaged, "disk '%s': " ROW_DAMAGED, disk_at(k, i)->name);
            k->damaged[OF_DISKS] = true;
        }
}

static void make_inconsistent(struct catalogue_bitmap *b, const char *why)
{
    g_free(b->inconsistent);
    b->inconsistent = g_strdup(why);
}

static void mend_bitmap(struct catalogue_bitmap *b, GHashTable *taken)
{
    mend_name(&b->name, b->disk, b->id, taken);
    if (!g_uuid_string_is_valid(b->uuid)) {
        g_autofree char *uuid = g_uuid_string_random();

        g_strlcpy(b->uuid, uuid, sizeof b->uuid);
    }
    if (!granularity_fits(b->granularity))
        b->granularity = GRANULARITY;
    b->sealed = false;
    make_inconsistent(b, ROW_DAMAGED);
}

/* Was the row of the bitmap's disk mended? -1: it is not there. */
static int disk_mended(const struct contents *k, const struct catalogue_bitmap *b)
{
    for (unsigned i = 0; i < k->rows[OF_DISKS]->len; i++)
        if (disk_at(k, i)->id == b->disk)
            return k->mended[OF_DISKS]->data[i];
    return -1;
}

static void leave_out_orphans(struct contents *k, GPtrArray *damaged)
{
    for (unsigned i = k->rows[OF_BITMAPS]->len; i-- > 0;) {
        struct catalogue_bitmap *b = bitmap_at(k, i);

        if (b->id > 0 && disk_mended(k, b) >= 0)
            continue;
        complain(damaged, "bitmap '%s' (row %" PRId64 "): the row of its disk is missing",
                 catalogue_is_name(b->name) ? b->name : "?", b->id);
        leave_out(k, OF_BITMAPS, i);
    }
}

/* A good row may speak of a bitmap that cannot be trusted all the same: NULL, or why. */
static const char *other_reason(struct catalogue *c, const struct contents *k,
                                const struct catalogue_bitmap *b)
{
    if (b->inconsistent)
        return NULL;
    if (disk_mended(k, b) == 1)
        return DISK_DAMAGED;
    return c->sick && c->distrusted ? DISTRUSTED : NULL;
}

static void judge_bitmaps(struct catalogue *c, struct contents *k, GPtrArray *damaged)
{
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint8_t *mended = k->mended[OF_BITMAPS]->data;

    leave_out_orphans(k, damaged);
    for (unsigned i = 0; i < k->rows[OF_BITMAPS]->len; i++) {
        struct catalogue_bitmap *b = bitmap_at(k, i);

        if (!mended[i])
            mended[i] = bitmap_misfit(b) || !claim(taken, g_strdup(b->uuid)) ||
                        !claim_name(taken, b->disk, b->name);
    }
    for (unsigned i = 0; i < k->rows[OF_BITMAPS]->len; i++) {
        struct catalogue_bitmap *b = bitmap_at(k, i);
        const char *why = other_reason(c, k, b);

        if (mended[i]) {
            mend_bitmap(b, taken);
            complain(damaged, "bitmap '%s': " ROW_DAMAGED, b->name);
            k->damaged[OF_BITMAPS] = true;
        } else if (why) {
            make_inconsistent(b, why);
            mended[i] = 1;
        }
    }
}

/* Nobody knows what a damaged record said. Without it the other rows are as true as before. */
static void judge_records(struct contents *k, GPtrArray *damaged)
{
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < k->rows[OF_RECORDS]->len;) {
        const struct catalogue_record *r =
            &g_array_index(k->rows[OF_RECORDS], struct catalogue_record, i);

        if (r->id > 0 && !k->mended[OF_RECORDS]->data[i] && !record_misfit(r) &&
            claim(taken, g_strdup_printf("%s/%s", r->kind, r->name))) {
            i++;
            continue;
        }
        complain(damaged, "%s '%s' (row %" PRId64 " of the records): " ROW_DAMAGED,
                 catalogue_is_name(r->kind) ? r->kind : "?",
                 catalogue_is_name(r->name) ? r->name : "?", r->id);
        leave_out(k, OF_RECORDS, i);
    }
}

int contents_load(struct catalogue *c, struct contents *k, GPtrArray *const damaged[TALLIES],
                  GError **err)
{
    static const GDestroyNotify clear[TALLIES] = {(GDestroyNotify)catalogue_disk_clear,
                                                  (GDestroyNotify)catalogue_bitmap_clear,
                                                  (GDestroyNotify)catalogue_record_clear};

    *k = (struct contents){.rows = {NULL}};
    for (unsigned i = 0; i < TALLIES; i++) {
        k->rows[i] = g_array_new(FALSE, FALSE, (guint)catalogue_tables[i].size);
        g_array_set_clear_func(k->rows[i], clear[i]);
        k->mended[i] = g_byte_array_new();
        k->strays[i] = g_array_new(FALSE, FALSE, sizeof(int64_t));
        k->found[i] = (struct tally){.id = 1 + (int64_t)i, .next = 1};
    }
    for (unsigned i = 0; i < TALLIES; i++)
        if (read_table(c, k, i, err) < 0)
            return -1;
    judge_disks(k, damaged[OF_DISKS]);
    judge_bitmaps(c, k, damaged[OF_BITMAPS]);
    judge_records(k, damaged[OF_RECORDS]);
    return 0;
}

void contents_clear(struct contents *k)
{
    for (unsigned i = 0; i < TALLIES; i++) {
        g_clear_pointer(&k->rows[i], g_array_unref);
        g_clear_pointer(&k->mended[i], g_byte_array_unref);
        g_clear_pointer(&k->strays[i], g_array_unref);
    }
}

static GArray *load_one(struct catalogue *c, unsigned which, GPtrArray *damaged, GError **err)
{
    GPtrArray *sentences[TALLIES] = {NULL};
    GArray *rows = NULL;
    struct contents k;

    sentences[which] = damaged;
    if (c->sick && c->complaint[which])
        complain(damaged, "%s", c->complaint[which]);
    if (contents_load(c, &k, sentences, err) == 0)
        rows = g_steal_pointer(&k.rows[which]);
    contents_clear(&k);
    return rows;
}

GArray *catalogue_disks(struct catalogue *c, GPtrArray *damaged, GError **err)
{
    return load_one(c, OF_DISKS, damaged, err);
}

GArray *catalogue_bitmaps(struct catalogue *c, GPtrArray *damaged, GError **err)
{
    return load_one(c, OF_BITMAPS, damaged, err);
}

GArray *catalogue_records(struct catalogue *c, GPtrArray *damaged, GError **err)
{
    return load_one(c, OF_RECORDS, damaged, err);
}

int catalogue_folder(struct catalogue *c, struct catalogue_folder *f, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = row_select(c, &folder_table, err);
    int got = statement ? sql_step(c, statement, err) : -1;
    uint32_t crc;

    *f = (struct catalogue_folder){.run = 0};
    if (got < 0)
        return -1;
    if (got == 0 || !row_read(&folder_table, statement, f, &crc) ||
        !g_uuid_string_is_valid(f->uuid))
        return fail(err, "state: %s/" STATE_CATALOGUE ": the row of the folder is damaged",
                    c->s->path);
    return 0;
}

int catalogue_put_folder(struct catalogue *c, const struct catalogue_folder *f, GError **err)
{
    uint32_t crc;

    if (!g_uuid_string_is_valid(f->uuid))
        return fail(err, "state: %s/" STATE_CATALOGUE ": '%s' is no UUID", c->s->path, f->uuid);
    return sql_check_transaction(c, err) < 0 ? -1 : row_write(c, &folder_table, f, &crc, err);
}
