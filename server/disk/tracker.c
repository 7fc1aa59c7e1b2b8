/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk-private.h"

GArray *mark_array_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct mark));
}

void mark_array_add(GArray *marks, struct bitmap *bits, uint32_t grain)
{
    struct mark mark = {.bits = bits, .grain = grain};

    g_array_append_val(marks, mark);
}

void disk_add_recorded(struct disk *d, GArray *marks)
{
    for (unsigned k = 0; k < d->bitmaps->len; k++) {
        struct dirty_bitmap *db = d->bitmaps->pdata[k];

        if (dirty_bitmap_records(db))
            mark_array_add(marks, db->bits, db->granularity);
    }
}

struct tracker *tracker_new(GArray *marks)
{
    struct tracker *t = g_malloc0(sizeof *t + marks->len * sizeof t->marks[0]);

    t->n = marks->len;
    for (unsigned i = 0; i < t->n; i++) {
        t->marks[i] = g_array_index(marks, struct mark, i);
        bitmap_ref(t->marks[i].bits);
    }
    return t;
}

void tracker_free(struct tracker *t)
{
    for (unsigned i = 0; t && i < t->n; i++)
        bitmap_unref(t->marks[i].bits);
    g_free(t);
}
