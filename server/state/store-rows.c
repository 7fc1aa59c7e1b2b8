/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-rows.h"

#include <string.h>

static void free_row(void *opaque)
{
    row_free(opaque);
}

static struct state_disk *new_disk(struct store *s)
{
    struct state_disk *d = g_new0(struct state_disk, 1);

    d->store = s;
    d->bitmaps = g_ptr_array_new_with_free_func(free_row);
    d->bits = g_ptr_array_new();
    pthread_mutex_init(&d->events_lock, NULL);
    pthread_mutex_lock(&s->lock);
    g_ptr_array_add(s->known, d);
    pthread_mutex_unlock(&s->lock);
    return d;
}

struct state_disk *rows_add_disk(struct store *s, const char *name, uint64_t size)
{
    struct state_disk *d = new_disk(s);

    d->row.name = g_strdup(name);
    d->row.size = size;
    d->is_new = true;
    return d;
}

static struct state_disk *disk_by_id(struct store *s, int64_t id)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (d->row.id == id)
            return d;
    }
    return NULL;
}

static void take_disks(struct store *s, GArray *disks)
{
    for (unsigned i = 0; i < disks->len; i++) {
        struct catalogue_disk *row = &g_array_index(disks, struct catalogue_disk, i);

        new_disk(s)->row = *row;
        memset(row, 0, sizeof *row); /* the array frees what it has */
    }
}

static void take_bitmaps(struct store *s, GArray *bitmaps)
{
    for (unsigned i = 0; i < bitmaps->len; i++) {
        struct catalogue_bitmap *row = &g_array_index(bitmaps, struct catalogue_bitmap, i);
        struct state_disk *d = disk_by_id(s, row->disk);

        if (!d)
            continue;
        g_ptr_array_add(d->bitmaps, g_memdup2(row, sizeof *row));
        memset(row, 0, sizeof *row);
    }
}

static void take_records(struct store *s, GArray *records)
{
    for (unsigned i = 0; i < records->len; i++) {
        struct catalogue_record *row = &g_array_index(records, struct catalogue_record, i);

        g_ptr_array_add(s->records, g_memdup2(row, sizeof *row));
        memset(row, 0, sizeof *row);
    }
}

void rows_free_disk(void *disk)
{
    struct state_disk *d = disk;

    catalogue_disk_clear(&d->row);
    g_free(d->name_before);
    g_free(d->image_before);
    g_free(d->stale);
    g_ptr_array_unref(d->bitmaps);
    g_ptr_array_unref(d->bits);
    pthread_mutex_destroy(&d->events_lock);
    g_free(d);
}

void rows_free_record(void *record)
{
    catalogue_record_clear(record);
    g_free(record);
}

int rows_read(struct store *s, bool *damaged, GError **err)
{
    g_autoptr(GPtrArray) said = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) disks = catalogue_disks(s->catalogue, said, err);
    g_autoptr(GArray) bitmaps = disks ? catalogue_bitmaps(s->catalogue, said, err) : NULL;
    g_autoptr(GArray) records = bitmaps ? catalogue_records(s->catalogue, NULL, err) : NULL;

    if (!records)
        return -1;
    *damaged = said->len != 0;
    take_disks(s, disks);
    take_bitmaps(s, bitmaps);
    take_records(s, records);
    return catalogue_folder(s->catalogue, &s->folder, err);
}

void rows_drop_disk(struct state_disk *d)
{
    struct store *s = d->store;

    pthread_mutex_lock(&s->lock);
    g_ptr_array_remove(s->known, d);
    pthread_mutex_unlock(&s->lock);
}

struct state_disk *rows_find_disk(struct store *s, const char *name)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (g_str_equal(d->row.name, name))
            return d;
    }
    return NULL;
}

struct catalogue_bitmap *rows_find_bitmap(struct state_disk *d, const char *name)
{
    for (unsigned i = 0; i < d->bitmaps->len; i++) {
        struct catalogue_bitmap *b = d->bitmaps->pdata[i];

        if (g_str_equal(b->name, name))
            return b;
    }
    return NULL;
}

struct catalogue_bitmap row_copy(const struct catalogue_bitmap *b)
{
    struct catalogue_bitmap copy = *b;

    copy.name = g_strdup(b->name);
    copy.inconsistent = g_strdup(b->inconsistent);
    return copy;
}

void row_free(struct catalogue_bitmap *b)
{
    catalogue_bitmap_clear(b);
    g_free(b);
}

void row_replace(struct catalogue_bitmap *b, struct catalogue_bitmap to)
{
    catalogue_bitmap_clear(b);
    *b = to;
}

bool row_equal(const struct catalogue_bitmap *a, const struct catalogue_bitmap *b)
{
    return a->id == b->id && a->disk == b->disk && g_str_equal(a->name, b->name) &&
           g_str_equal(a->uuid, b->uuid) && a->granularity == b->granularity &&
           a->size == b->size && a->recording == b->recording &&
           g_strcmp0(a->inconsistent, b->inconsistent) == 0 && a->sealed == b->sealed &&
           (!a->sealed || a->crc == b->crc);
}

void row_set_inconsistent(struct catalogue_bitmap *b, const char *reason)
{
    char *copy =
        g_utf8_make_valid(reason, -1); /* it may name a file, whose path need not be UTF-8 */

    g_free(b->inconsistent);
    b->inconsistent = copy;
    b->sealed = false;
}
