/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-rows.h"

#include "common/base/bitmap.h"
#include "common/state/catalogue-sql.h"
#include "common/state/catalogue.h"
#include "common/state/folder.h"
#include "common/util/error.h"

#include <inttypes.h>
#include <string.h>

#define MOST_NAME   1023
#define MOST_TEXT   65536
#define GRANULARITY 65536 /* of a bitmap whose own is lost */

#define ROW_DAMAGED  "its row in the catalogue is damaged"
#define DISK_DAMAGED "the row of its disk in the catalogue is damaged"
#define DISTRUSTED   "rows of the catalogue are missing or out of date"

/* ---- the tables ---- */

#define COLUMN(type, member, kind, most)                                                           \
    {                                                                                              \
#member, kind, offsetof(struct type, member), most                                         \
    }

static const struct column disk_columns[] = {
    COLUMN(catalogue_disk, id, COLUMN_INT64, 0),
    COLUMN(catalogue_disk, name, COLUMN_TEXT, MOST_NAME),
    COLUMN(catalogue_disk, size, COLUMN_SIZE, 0),
    COLUMN(catalogue_disk, resize_to, COLUMN_SIZE, 0),
    COLUMN(catalogue_disk, state, COLUMN_ENUM, DISK_CRASHED),
    COLUMN(catalogue_disk, image, COLUMN_TEXT, MOST_TEXT),
    COLUMN(catalogue_disk, content, COLUMN_TEXT, MOST_TEXT),
    COLUMN(catalogue_disk, changed_until, COLUMN_INT64, 0),
    COLUMN(catalogue_disk, adopted, COLUMN_BOOL, 0),
};

static const struct column bitmap_columns[] = {
    COLUMN(catalogue_bitmap, id, COLUMN_INT64, 0),
    COLUMN(catalogue_bitmap, disk, COLUMN_INT64, 0),
    COLUMN(catalogue_bitmap, name, COLUMN_TEXT, MOST_NAME),
    COLUMN(catalogue_bitmap, uuid, COLUMN_CHARS, STATE_UUID_SIZE),
    COLUMN(catalogue_bitmap, granularity, COLUMN_UINT32, 0),
    COLUMN(catalogue_bitmap, size, COLUMN_SIZE, 0),
    COLUMN(catalogue_bitmap, recording, COLUMN_BOOL, 0),
    COLUMN(catalogue_bitmap, inconsistent, COLUMN_TEXT_OR_NULL, MOST_TEXT),
    COLUMN(catalogue_bitmap, sealed, COLUMN_BOOL, 0),
    {"bits_crc", COLUMN_UINT32, offsetof(struct catalogue_bitmap, crc), 0},
};

static const struct column folder_columns[] = {
    {"id", COLUMN_ONE, 0, 0},
    COLUMN(catalogue_folder, uuid, COLUMN_CHARS, STATE_UUID_SIZE),
    COLUMN(catalogue_folder, boot_id, COLUMN_CHARS, STATE_UUID_SIZE),
    COLUMN(catalogue_folder, machine_id, COLUMN_CHARS, 64),
    COLUMN(catalogue_folder, run, COLUMN_UINT64, 0),
    COLUMN(catalogue_folder, journal, COLUMN_BOOL, 0),
    COLUMN(catalogue_folder, open, COLUMN_BOOL, 0),
    COLUMN(catalogue_folder, failed, COLUMN_BOOL, 0),
};

static const struct column tally_columns[] = {
    COLUMN(tally, id, COLUMN_INT64, 0),
    COLUMN(tally, rows, COLUMN_INT64, 0),
    COLUMN(tally, sum, COLUMN_INT64, 0),
    COLUMN(tally, next, COLUMN_INT64, 0),
};

const struct table catalogue_tables[TALLIES] = {
    {"disks", disk_columns, G_N_ELEMENTS(disk_columns), sizeof(struct catalogue_disk)},
    {"bitmaps", bitmap_columns, G_N_ELEMENTS(bitmap_columns), sizeof(struct catalogue_bitmap)},
};
const struct table tally_table = {"tally", tally_columns, G_N_ELEMENTS(tally_columns),
                                  sizeof(struct tally)};
static const struct table folder_table = {"folder", folder_columns, G_N_ELEMENTS(folder_columns),
                                          sizeof(struct catalogue_folder)};

void catalogue_disk_clear(struct catalogue_disk *d)
{
    g_clear_pointer(&d->name, g_free);
    g_clear_pointer(&d->image, g_free);
    g_clear_pointer(&d->content, g_free);
}

void catalogue_bitmap_clear(struct catalogue_bitmap *b)
{
    g_clear_pointer(&b->name, g_free);
    g_clear_pointer(&b->inconsistent, g_free);
}

/* ---- what may be in a row ---- */

static bool text_fits(const char *text, size_t most)
{
    return text && strlen(text) <= most;
}

static bool name_fits(const char *name)
{
    return text_fits(name, MOST_NAME) && name[0] && g_utf8_validate(name, -1, NULL);
}

static bool granularity_fits(uint32_t granularity)
{
    return granularity >= BITMAP_MIN_GRANULARITY && (granularity & (granularity - 1)) == 0;
}

const char *disk_misfit(const void *disk)
{
    const struct catalogue_disk *d = disk;

    if (d->id < 0)
        return "its id is negative";
    if (!name_fits(d->name))
        return "its name is no name";
    if (d->size > INT64_MAX || d->resize_to > INT64_MAX)
        return "its size is too large";
    if (!text_fits(d->image, MOST_TEXT) || !text_fits(d->content, MOST_TEXT))
        return "what is known of its image is missing or too long";
    if ((unsigned)d->state > DISK_CRASHED || d->changed_until < 0)
        return "its state is none";
    return NULL;
}

const char *bitmap_misfit(const void *bitmap)
{
    const struct catalogue_bitmap *b = bitmap;

    if (b->id < 0 || b->disk <= 0)
        return "its id or that of its disk is none";
    if (!name_fits(b->name))
        return "its name is no name";
    if (!g_uuid_string_is_valid(b->uuid))
        return "its UUID is none";
    if (!granularity_fits(b->granularity))
        return "its granularity is none";
    if (b->size > INT64_MAX)
        return "its size is too large";
    if (b->inconsistent && (!b->inconsistent[0] || !text_fits(b->inconsistent, MOST_TEXT) ||
                            !g_utf8_validate(b->inconsistent, -1, NULL)))
        return "the reason why it is inconsistent is none";
    return NULL;
}

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

    if (name_fits(*name) && claim_name(taken, disk, *name))
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
    g_array_remove_index(k->rows[which], i);
    g_byte_array_remove_index(k->mended[which], i);
    k->all_good = false;
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
            k->all_good = false;
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
                 name_fits(b->name) ? b->name : "?", b->id);
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
            k->all_good = false;
        } else if (why) {
            make_inconsistent(b, why);
            mended[i] = 1;
        }
    }
}

int contents_load(struct catalogue *c, struct contents *k, GPtrArray *const damaged[TALLIES],
                  GError **err)
{
    static const GDestroyNotify clear[TALLIES] = {(GDestroyNotify)catalogue_disk_clear,
                                                  (GDestroyNotify)catalogue_bitmap_clear};

    *k = (struct contents){.all_good = true};
    for (unsigned i = 0; i < TALLIES; i++) {
        k->rows[i] = g_array_new(FALSE, FALSE, (guint)catalogue_tables[i].size);
        g_array_set_clear_func(k->rows[i], clear[i]);
        k->mended[i] = g_byte_array_new();
        k->found[i] = (struct tally){.id = 1 + (int64_t)i, .next = 1};
    }
    for (unsigned i = 0; i < TALLIES; i++)
        if (read_table(c, k, i, err) < 0)
            return -1;
    judge_disks(k, damaged[OF_DISKS]);
    judge_bitmaps(c, k, damaged[OF_BITMAPS]);
    return 0;
}

void contents_clear(struct contents *k)
{
    for (unsigned i = 0; i < TALLIES; i++) {
        g_clear_pointer(&k->rows[i], g_array_unref);
        g_clear_pointer(&k->mended[i], g_byte_array_unref);
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
