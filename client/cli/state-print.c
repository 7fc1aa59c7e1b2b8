/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/state-print.h"
#include "client/cli/table.h"
#include "client/state/recovery-text.h"
#include "common/json/value.h"

#include <stdio.h>

static const char *disk_state(const struct catalogue_disk *d)
{
    return d->state == DISK_CLEAN ? "clean" : "crashed";
}

static const char *bitmap_state(const struct surveyed_bitmap *b)
{
    if (b->row.inconsistent)
        return "inconsistent";
    return b->row.recording ? "recording" : "disabled";
}

static void print_disks(struct client *c, const survey *s)
{
    static const char *const headers[] = {"DISK", ">SIZE", "STATE", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < s->disks->len; i++) {
        const struct catalogue_disk *d = &g_array_index(s->disks, struct catalogue_disk, i);

        table_add(t, d->name);
        table_add_size(t, d->size);
        table_add(t, disk_state(d));
    }
    table_print(t, c->out);
}

static void print_bitmaps(struct client *c, const survey *s)
{
    static const char *const headers[] = {"DISK",  "NAME",   ">DIRTY", ">GRANULARITY",
                                          "STATE", "REASON", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint d = 0; d < s->disks->len; d++) {
        const struct catalogue_disk *disk = &g_array_index(s->disks, struct catalogue_disk, d);

        for (guint i = 0; i < s->bitmaps->len; i++) {
            const struct surveyed_bitmap *b = s->bitmaps->pdata[i];

            if (b->row.disk != disk->id)
                continue;
            table_add(t, disk->name);
            table_add(t, b->row.name);
            if (b->counted)
                table_add_size(t, b->dirty);
            else
                table_add(t, NULL);
            table_add_size(t, b->row.granularity);
            table_add(t, bitmap_state(b));
            table_add(t, b->row.inconsistent);
        }
    }
    table_print(t, c->out);
}

void state_print(struct client *c, const survey *s)
{
    print_disks(c, s);
    g_string_append_c(c->out, '\n');
    print_bitmaps(c, s);
}

static void bitmap_json(JsonBuilder *b, const struct surveyed_bitmap *bitmap)
{
    json_builder_begin_object(b);
    json_add_string(b, "name", bitmap->row.name);
    json_add_string(b, "uuid", bitmap->row.uuid);
    if (bitmap->counted)
        json_add_size(b, "count", bitmap->dirty);
    json_add_size(b, "granularity", bitmap->row.granularity);
    json_add_bool(b, "recording", bitmap->row.recording);
    json_add_bool(b, "persistent", true);
    json_add_bool(b, "inconsistent", bitmap->row.inconsistent);
    if (bitmap->row.inconsistent)
        json_add_string(b, "inconsistent-reason", bitmap->row.inconsistent);
    json_builder_end_object(b);
}

static void disk_json(JsonBuilder *b, const survey *s, const struct catalogue_disk *d)
{
    json_builder_begin_object(b);
    json_add_string(b, "name", d->name);
    json_add_size(b, "size", d->size);
    if (d->resize_to > 0)
        json_add_size(b, "resize-to", d->resize_to);
    json_add_string(b, "state", disk_state(d));
    json_add_bool(b, "adopted", d->adopted);
    json_builder_set_member_name(b, "bitmaps");
    json_builder_begin_array(b);
    for (guint i = 0; i < s->bitmaps->len; i++) {
        const struct surveyed_bitmap *bitmap = s->bitmaps->pdata[i];

        if (bitmap->row.disk == d->id)
            bitmap_json(b, bitmap);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
}

void state_print_json(JsonBuilder *b, const survey *s)
{
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < s->disks->len; i++)
        disk_json(b, s, &g_array_index(s->disks, struct catalogue_disk, i));
    json_builder_end_array(b);
}

int state_recover_told(const offline *o, GError **err)
{
    struct recovery *r = state_recover(o->storage, o->catalogue, err);
    g_autofree char *text = NULL;

    if (!r)
        return -1;
    text = recovery_text(r);
    recovery_free(r);
    if (text)
        fprintf(stderr, "fleecectl: the folder was not left in order: %s\n", text);
    return 0;
}
