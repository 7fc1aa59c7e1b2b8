/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/state-print.h"
#include "client/cli/table.h"
#include "client/state/recovery-text.h"
#include "common/json/value.h"

#include <stdio.h>
#include <string.h>

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

/* What has become of a checkpoint's bitmap on one of its disks; NULL: it is good. */
static const char *bitmap_fault(const survey *s, const struct surveyed_record *r, const char *disk)
{
    const struct surveyed_bitmap *b = survey_bitmap(s, disk, r->name);

    if (strcmp(r->kind, "checkpoint") != 0)
        return NULL;
    return !b ? "missing" : b->row.inconsistent ? "inconsistent" : NULL;
}

/* "vda, vdb (inconsistent)". */
static char *disks_text(const survey *s, const struct surveyed_record *r)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < r->disks->len; i++) {
        const char *disk = r->disks->pdata[i], *fault = bitmap_fault(s, r, disk);

        g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", disk);
        if (fault)
            g_string_append_printf(text, " (%s)", fault);
    }
    return g_string_free(text, FALSE);
}

static bool has_records(const survey *s, const char *kind)
{
    for (guint i = 0; i < s->records->len; i++)
        if (strcmp(((const struct surveyed_record *)s->records->pdata[i])->kind, kind) == 0)
            return true;
    return false;
}

static void print_records(struct client *c, const survey *s, const char *kind, const char *title)
{
    const char *const headers[] = {title, "TIME", "STATE", "DISKS", "REASON", NULL};
    g_autoptr(table) t = NULL;

    if (!has_records(s, kind))
        return;
    t = table_new(&c->terminal, headers);
    for (guint i = 0; i < s->records->len; i++) {
        const struct surveyed_record *r = s->records->pdata[i];
        g_autofree char *disks = disks_text(s, r);

        if (strcmp(r->kind, kind) != 0)
            continue;
        table_add(t, r->name);
        table_add_time(t, r->time_usec);
        table_add(t, r->state);
        table_add(t, disks);
        table_add(t, r->reason);
    }
    g_string_append_c(c->out, '\n');
    table_print(t, c->out);
}

void state_print(struct client *c, const survey *s)
{
    print_disks(c, s);
    g_string_append_c(c->out, '\n');
    print_bitmaps(c, s);
    print_records(c, s, "checkpoint", "CHECKPOINT");
    print_records(c, s, "session", "SESSION");
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

static void record_json(JsonBuilder *b, const survey *s, const struct surveyed_record *r,
                        const char *name)
{
    json_builder_begin_object(b);
    json_add_string(b, name, r->name);
    json_add_string(b, "state", r->state);
    if (r->time_usec != 0)
        json_add_size(b, "time-usec", (uint64_t)r->time_usec);
    if (r->reason)
        json_add_string(b, "reason", r->reason);
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->disks->len; i++) {
        const char *disk = r->disks->pdata[i], *fault = bitmap_fault(s, r, disk);

        json_builder_begin_object(b);
        json_add_string(b, "disk", disk);
        if (fault)
            json_add_string(b, "bitmap", fault);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
}

/* `name`: of the member that has the record's name. */
static void records_json(JsonBuilder *b, const survey *s, const char *kind, const char *member,
                         const char *name)
{
    json_builder_set_member_name(b, member);
    json_builder_begin_array(b);
    for (guint i = 0; i < s->records->len; i++) {
        const struct surveyed_record *r = s->records->pdata[i];

        if (strcmp(r->kind, kind) == 0)
            record_json(b, s, r, name);
    }
    json_builder_end_array(b);
}

void state_print_json(JsonBuilder *b, const survey *s)
{
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < s->disks->len; i++)
        disk_json(b, s, &g_array_index(s->disks, struct catalogue_disk, i));
    json_builder_end_array(b);
    records_json(b, s, "checkpoint", "checkpoints", "name");
    records_json(b, s, "session", "sessions", "id");
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
