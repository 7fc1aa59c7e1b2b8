/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/state/survey.h"
#include "client/base/error.h"

#include <string.h>

static void bitmap_free(gpointer item)
{
    struct surveyed_bitmap *b = item;

    catalogue_bitmap_clear(&b->row);
    g_free(b);
}

/* Takes over what the row points to. */
static struct surveyed_bitmap *count_bitmap(struct storage *s, struct catalogue_bitmap *row)
{
    struct surveyed_bitmap *b = g_new0(struct surveyed_bitmap, 1);
    g_autoptr(GError) error = NULL;
    struct bitmap *bits;

    b->row = *row;
    memset(row, 0, sizeof(*row));
    if (b->row.inconsistent)
        return b;
    bits = bits_read(s, &b->row, &error);
    if (bits) {
        b->counted = true;
        b->dirty = bitmap_count(bits);
        bitmap_unref(bits);
    } else {
        b->row.inconsistent = g_strdup(error->message);
    }
    return b;
}

static int survey_records(survey *s, const offline *o, GError **err)
{
    g_autoptr(GArray) rows = catalogue_records(o->catalogue, s->damaged, err);

    if (!rows)
        return -1;
    for (guint i = 0; i < rows->len; i++)
        g_ptr_array_add(s->records,
                        surveyed_record_new(&g_array_index(rows, struct catalogue_record, i)));
    return 0;
}

survey *survey_take(const offline *o, GError **err)
{
    g_autoptr(survey) s = g_new0(struct survey, 1);
    g_autoptr(GArray) rows = NULL;

    s->bitmaps = g_ptr_array_new_with_free_func(bitmap_free);
    s->records = g_ptr_array_new_with_free_func((GDestroyNotify)surveyed_record_free);
    s->damaged = g_ptr_array_new_with_free_func(g_free);
    s->disks = catalogue_disks(o->catalogue, s->damaged, err);
    if (!s->disks)
        return NULL;
    rows = catalogue_bitmaps(o->catalogue, s->damaged, err);
    if (!rows || survey_records(s, o, err) < 0)
        return NULL;
    for (guint i = 0; i < rows->len; i++) {
        struct catalogue_bitmap *row = &g_array_index(rows, struct catalogue_bitmap, i);

        g_ptr_array_add(s->bitmaps, count_bitmap(o->storage, row));
    }
    return g_steal_pointer(&s);
}

void survey_free(survey *s)
{
    if (!s)
        return;
    g_clear_pointer(&s->disks, g_array_unref);
    g_ptr_array_unref(s->bitmaps);
    g_ptr_array_unref(s->records);
    g_ptr_array_unref(s->damaged);
    g_free(s);
}

const struct surveyed_bitmap *survey_bitmap(const survey *s, const char *disk, const char *name)
{
    for (guint d = 0; d < s->disks->len; d++) {
        const struct catalogue_disk *row = &g_array_index(s->disks, struct catalogue_disk, d);

        for (guint i = 0; strcmp(row->name, disk) == 0 && i < s->bitmaps->len; i++) {
            const struct surveyed_bitmap *b = s->bitmaps->pdata[i];

            if (b->row.disk == row->id && strcmp(b->row.name, name) == 0)
                return b;
        }
    }
    return NULL;
}

/* "there is a, b". */
static char *names_text(GPtrArray *names)
{
    g_autofree char *list = NULL;

    if (names->len == 0)
        return g_strdup("there is none");
    g_ptr_array_add(names, NULL);
    list = g_strjoinv(", ", (char **)names->pdata);
    return g_strconcat("there is ", list, NULL);
}

const struct catalogue_disk *survey_find_disk(const survey *s, const char *name, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *list = NULL;

    for (guint i = 0; i < s->disks->len; i++) {
        const struct catalogue_disk *d = &g_array_index(s->disks, struct catalogue_disk, i);

        if (strcmp(d->name, name) == 0)
            return d;
        g_ptr_array_add(names, d->name);
    }
    list = names_text(names);
    client_fail(err, CLIENT_ERROR_FAILED, "disk %s: the folder has no such disk: %s", name, list);
    return NULL;
}

const struct surveyed_bitmap *survey_find_bitmap(const survey *s, const struct catalogue_disk *d,
                                                 const char *name, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *list = NULL;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        const struct surveyed_bitmap *b = s->bitmaps->pdata[i];

        if (b->row.disk != d->id)
            continue;
        if (strcmp(b->row.name, name) == 0)
            return b;
        g_ptr_array_add(names, b->row.name);
    }
    list = names_text(names);
    client_fail(err, CLIENT_ERROR_FAILED, "disk %s: bitmap %s: the disk has no such bitmap: %s",
                d->name, name, list);
    return NULL;
}
