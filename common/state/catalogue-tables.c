/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-tables.h"

#include "common/base/bitmap.h"
#include "common/state/catalogue.h"

#include <string.h>

#define MOST_NAME 1023
#define MOST_TEXT 65536

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

static const struct column record_columns[] = {
    COLUMN(catalogue_record, id, COLUMN_INT64, 0),
    COLUMN(catalogue_record, kind, COLUMN_TEXT, MOST_NAME),
    COLUMN(catalogue_record, name, COLUMN_TEXT, MOST_NAME),
    COLUMN(catalogue_record, text, COLUMN_TEXT, CATALOGUE_MAX_RECORD),
};

const struct table catalogue_tables[TALLIES] = {
    {"disks", disk_columns, G_N_ELEMENTS(disk_columns), sizeof(struct catalogue_disk)},
    {"bitmaps", bitmap_columns, G_N_ELEMENTS(bitmap_columns), sizeof(struct catalogue_bitmap)},
    {"records", record_columns, G_N_ELEMENTS(record_columns), sizeof(struct catalogue_record)},
};
const struct table tally_table = {"tally", tally_columns, G_N_ELEMENTS(tally_columns),
                                  sizeof(struct tally)};
const struct table folder_table = {"folder", folder_columns, G_N_ELEMENTS(folder_columns),
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

void catalogue_record_clear(struct catalogue_record *r)
{
    g_clear_pointer(&r->kind, g_free);
    g_clear_pointer(&r->name, g_free);
    g_clear_pointer(&r->text, g_free);
}

/* ---- what may be in a row ---- */

static bool text_fits(const char *text, size_t most)
{
    return text && strlen(text) <= most;
}

bool catalogue_is_name(const char *name)
{
    return text_fits(name, MOST_NAME) && name[0] && g_utf8_validate(name, -1, NULL);
}

bool granularity_fits(uint32_t granularity)
{
    return granularity >= BITMAP_MIN_GRANULARITY && (granularity & (granularity - 1)) == 0;
}

const char *disk_misfit(const void *disk)
{
    const struct catalogue_disk *d = disk;

    if (d->id < 0)
        return "its id is negative";
    if (!catalogue_is_name(d->name))
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
    if (!catalogue_is_name(b->name))
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

const char *record_misfit(const void *record)
{
    const struct catalogue_record *r = record;

    if (r->id < 0)
        return "its id is negative";
    if (!catalogue_is_name(r->kind) || !catalogue_is_name(r->name))
        return "its kind or its name is no name";
    if (!text_fits(r->text, CATALOGUE_MAX_RECORD))
        return "its text is missing or too long";
    return g_utf8_validate(r->text, -1, NULL) ? NULL : "its text is not UTF-8";
}
