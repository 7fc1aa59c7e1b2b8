/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl bitmap: dirty bitmaps. */
#include "client/base/error.h"
#include "client/cli/arguments.h"
#include "client/cli/command.h"
#include "client/cli/table.h"
#include "common/json/value.h"

#include <string.h>

/* ---- list ---- */

static char *state(const struct bitmap_entry *b)
{
    if (b->inconsistent)
        return g_strdup("inconsistent");
    return g_strconcat(b->recording ? "recording"
                       : b->busy    ? "busy"
                                    : "disabled",
                       b->recording && b->busy ? ", busy" : "", b->checkpoint ? ", checkpoint" : "",
                       NULL);
}

static void list_table(struct client *c, const inventory *i, const char *only)
{
    static const char *const headers[] = {"DISK",  "NAME",       ">DIRTY", ">GRANULARITY",
                                          "STATE", "PERSISTENT", "REASON", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint d = 0; d < i->disks->len; d++) {
        const struct disk_entry *disk = &g_array_index(i->disks, struct disk_entry, d);

        for (guint n = 0; n < disk->bitmaps->len; n++) {
            const struct bitmap_entry *b = &g_array_index(disk->bitmaps, struct bitmap_entry, n);
            g_autofree char *text = state(b);

            if (!only || strcmp(only, disk->name) == 0) {
                table_add(t, disk->name);
                table_add(t, b->name);
                table_add_size(t, b->count);
                table_add_size(t, b->granularity);
                table_add(t, text);
                table_add(t, b->persistent ? "yes" : "no");
                table_add(t, b->inconsistent ? b->inconsistent_reason : NULL);
            }
        }
    }
    table_print(t, c->out);
}

static void bitmap_json(JsonBuilder *b, const char *disk, const struct bitmap_entry *bitmap)
{
    json_builder_begin_object(b);
    json_add_string(b, "disk", disk);
    json_add_string(b, "name", bitmap->name);
    json_add_size(b, "count", bitmap->count);
    json_add_size(b, "granularity", bitmap->granularity);
    json_add_bool(b, "recording", bitmap->recording);
    json_add_bool(b, "busy", bitmap->busy);
    json_add_bool(b, "persistent", bitmap->persistent);
    json_add_bool(b, "inconsistent", bitmap->inconsistent);
    if (bitmap->inconsistent_reason)
        json_add_string(b, "inconsistent-reason", bitmap->inconsistent_reason);
    if (bitmap->checkpoint)
        json_add_string(b, "checkpoint", bitmap->checkpoint);
    json_builder_end_object(b);
}

static void list_json(struct client *c, const inventory *i, const char *only)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_array(b);
    for (guint d = 0; d < i->disks->len; d++) {
        const struct disk_entry *disk = &g_array_index(i->disks, struct disk_entry, d);

        for (guint n = 0; n < disk->bitmaps->len; n++) {
            if (!only || strcmp(only, disk->name) == 0)
                bitmap_json(b, disk->name, &g_array_index(disk->bitmaps, struct bitmap_entry, n));
        }
    }
    json_builder_end_array(b);
    client_print_builder(c, b);
}

static int run_bitmap_list(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(inventory) i = client_inventory(c, err);

    if (!i || (args[0] && !inventory_find_disk(i, args[0], err)))
        return -1;
    if (c->json)
        list_json(c, i, args[0]);
    else
        list_table(c, i, args[0]);
    return 0;
}

const struct command cmd_bitmap_list = {
    .name = "bitmap list",
    .synopsis = "[DISK]",
    .summary = "the dirty bitmaps of one disk or of all",
    .max_args = 1,
    .run = run_bitmap_list,
};

/* ---- commands on one bitmap ---- */

/* Run `command` with `node` and `name` from args added to `arguments`. */
static int act(struct client *c, char **args, const char *command, JsonObject *arguments,
               GError **err)
{
    g_autofree char *object = g_strdup_printf("disk %s: bitmap %s", args[0], args[1]);

    json_object_set_string_member(arguments, "node", args[0]);
    json_object_set_string_member(arguments, "name", args[1]);
    return client_act(c, object, command, arguments, err);
}

struct add_options {
    char *granularity;
    gboolean disabled;
    char *persistent;
};

static int run_bitmap_add(struct client *c, const void *options, char **args, GError **err)
{
    const struct add_options *o = options;
    g_autoptr(JsonObject) arguments = json_object_new();

    if (arguments_add_size(arguments, "granularity", o->granularity, err) < 0)
        return -1;
    if (o->persistent && strcmp(o->persistent, "on") != 0 && strcmp(o->persistent, "off") != 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "--persistent %s: on or off", o->persistent);
    if (o->disabled)
        json_object_set_boolean_member(arguments, "disabled", TRUE);
    if (o->persistent)
        json_object_set_boolean_member(arguments, "persistent", strcmp(o->persistent, "on") == 0);
    return act(c, args, "block-dirty-bitmap-add", g_steal_pointer(&arguments), err);
}

static const struct option add_options[] = {
    {"granularity", 'g', OPTION_TEXT, "N", offsetof(struct add_options, granularity),
     "bytes that one bit stands for: a power of two from 512 to 2G"},
    {"disabled", 0, OPTION_FLAG, NULL, offsetof(struct add_options, disabled),
     "it does not record until enabled"},
    {"persistent", 0, OPTION_TEXT, "on|off", offsetof(struct add_options, persistent),
     "it survives the server (default: if it has a state folder)"},
    {NULL},
};

const struct command cmd_bitmap_add = {
    .name = "bitmap add",
    .synopsis = "DISK NAME [--granularity N] [--disabled] [--persistent on|off]",
    .summary = "make an empty bitmap, which records from now on",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .options = add_options,
    .options_size = sizeof(struct add_options),
    .run = run_bitmap_add,
};

static int run_bitmap_remove(struct client *c, const void *options, char **args, GError **err)
{
    return act(c, args, "block-dirty-bitmap-remove", json_object_new(), err);
}

const struct command cmd_bitmap_remove = {
    .name = "bitmap remove",
    .synopsis = "DISK NAME",
    .summary = "remove a bitmap",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_bitmap_remove,
};

static int run_bitmap_clear(struct client *c, const void *options, char **args, GError **err)
{
    return act(c, args, "block-dirty-bitmap-clear", json_object_new(), err);
}

const struct command cmd_bitmap_clear = {
    .name = "bitmap clear",
    .synopsis = "DISK NAME",
    .summary = "set all of a bitmap to clean",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_bitmap_clear,
};

static int run_bitmap_enable(struct client *c, const void *options, char **args, GError **err)
{
    return act(c, args, "block-dirty-bitmap-enable", json_object_new(), err);
}

const struct command cmd_bitmap_enable = {
    .name = "bitmap enable",
    .synopsis = "DISK NAME",
    .summary = "let a bitmap record",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_bitmap_enable,
};

static int run_bitmap_disable(struct client *c, const void *options, char **args, GError **err)
{
    return act(c, args, "block-dirty-bitmap-disable", json_object_new(), err);
}

const struct command cmd_bitmap_disable = {
    .name = "bitmap disable",
    .synopsis = "DISK NAME",
    .summary = "let a bitmap record no more; what it has stays",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_bitmap_disable,
};

static int run_bitmap_populate(struct client *c, const void *options, char **args, GError **err)
{
    return act(c, args, "block-dirty-bitmap-populate", json_object_new(), err);
}

const struct command cmd_bitmap_populate = {
    .name = "bitmap populate",
    .synopsis = "DISK NAME",
    .summary = "set what is allocated on the disk to dirty",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_bitmap_populate,
};

static int run_bitmap_merge(struct client *c, const void *options, char **args, GError **err)
{
    g_autofree char *object = g_strdup_printf("disk %s: bitmap %s", args[0], args[1]);
    JsonObject *arguments = json_object_new();
    JsonArray *sources = json_array_new();

    for (char **source = args + 2; *source; source++)
        json_array_add_string_element(sources, *source);
    json_object_set_string_member(arguments, "node", args[0]);
    json_object_set_string_member(arguments, "target", args[1]);
    json_object_set_array_member(arguments, "bitmaps", sources);
    return client_act(c, object, "block-dirty-bitmap-merge", arguments, err);
}

const struct command cmd_bitmap_merge = {
    .name = "bitmap merge",
    .synopsis = "DISK TARGET SOURCE...",
    .summary = "add to bitmap TARGET all that is dirty in the SOURCEs",
    .min_args = 3,
    .max_args = -1,
    .acts = true,
    .run = run_bitmap_merge,
};
