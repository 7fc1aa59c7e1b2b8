/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl checkpoint: named instants, since which changes are recorded. */
#include "client/cli/arguments.h"
#include "client/cli/command.h"
#include "client/cli/table.h"
#include "client/qmp/backups.h"

/* ---- list and show ---- */

static const char *part_state(const struct checkpoint_part *p)
{
    if (p->valid)
        return "valid";
    return p->reason ? p->reason : "not valid";
}

/* "valid", or how many parts can be a base. */
static char *checkpoint_state(const struct checkpoint_entry *c)
{
    guint valid = 0;

    for (guint i = 0; i < c->parts->len; i++)
        valid += g_array_index(c->parts, struct checkpoint_part, i).valid;
    return valid == c->parts->len && valid > 0
               ? g_strdup("valid")
               : g_strdup_printf("valid on %u of %u disks", valid, c->parts->len);
}

static uint64_t dirty_of(const struct checkpoint_entry *c)
{
    uint64_t dirty = 0;

    for (guint i = 0; i < c->parts->len; i++)
        dirty += g_array_index(c->parts, struct checkpoint_part, i).dirty;
    return dirty;
}

static void list_table(struct client *c, const GArray *checkpoints)
{
    static const char *const headers[] = {"NAME",   "TIME",  "PARENT",      ">DISKS",
                                          ">DIRTY", "STATE", "DESCRIPTION", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < checkpoints->len; i++) {
        const struct checkpoint_entry *e = &g_array_index(checkpoints, struct checkpoint_entry, i);
        g_autofree char *state = checkpoint_state(e);

        table_add(t, e->name);
        table_add_time(t, e->time);
        table_add(t, e->parent);
        table_add_number(t, e->parts->len);
        table_add_size(t, dirty_of(e));
        table_add(t, state);
        table_add(t, e->description);
    }
    table_print(t, c->out);
}

/* All checkpoints; what the server said is in *reply. NULL and *err. */
static GArray *ask(struct client *c, JsonNode **reply, GError **err)
{
    struct qmp *qmp = client_qmp(c, err);

    return qmp ? checkpoints_get(qmp, reply, err) : NULL;
}

static int run_checkpoint_list(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(JsonNode) reply = NULL;
    g_autoptr(GArray) checkpoints = ask(c, &reply, err);

    if (!checkpoints)
        return -1;
    if (c->json)
        client_print_json(c, reply, false);
    else
        list_table(c, checkpoints);
    return 0;
}

const struct command cmd_checkpoint_list = {
    .name = "checkpoint list",
    .synopsis = "",
    .summary = "the checkpoints, oldest first",
    .run = run_checkpoint_list,
};

static void show_table(struct client *c, const struct checkpoint_entry *e)
{
    static const char *const headers[] = {"DISK",         "BITMAP", ">DIRTY",
                                          ">GRANULARITY", "STATE",  NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);
    g_autofree char *time = time_text(e->time);

    client_print_row(c, "name", "%s", e->name);
    client_print_row(c, "time", "%s", time ? time : "-");
    if (e->parent)
        client_print_row(c, "parent", "%s", e->parent);
    if (e->description)
        client_print_row(c, "description", "%s", e->description);
    g_string_append_c(c->out, '\n');
    for (guint i = 0; i < e->parts->len; i++) {
        const struct checkpoint_part *p = &g_array_index(e->parts, struct checkpoint_part, i);

        table_add(t, p->disk);
        table_add(t, p->bitmap);
        table_add_size(t, p->dirty);
        table_add_size(t, p->granularity);
        table_add(t, part_state(p));
    }
    table_print(t, c->out);
}

static int run_checkpoint_show(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(JsonNode) reply = NULL;
    g_autoptr(GArray) checkpoints = ask(c, &reply, err);
    const struct checkpoint_entry *e =
        checkpoints ? checkpoints_find(checkpoints, args[0], err) : NULL;

    if (!e)
        return -1;
    if (c->json)
        client_print_json(c, e->node, false);
    else
        show_table(c, e);
    return 0;
}

const struct command cmd_checkpoint_show = {
    .name = "checkpoint show",
    .synopsis = "NAME",
    .summary = "one checkpoint, with its part on each disk",
    .min_args = 1,
    .max_args = 1,
    .run = run_checkpoint_show,
};

/* ---- create and delete ---- */

struct create_options {
    char *description, *granularity;
};

static int run_checkpoint_create(struct client *c, const void *options, char **args, GError **err)
{
    const struct create_options *o = options;
    g_autofree char *object = g_strdup_printf("checkpoint %s", args[0]);
    g_autoptr(JsonObject) arguments = json_object_new();

    json_object_set_string_member(arguments, "name", args[0]);
    if (args[1]) {
        JsonArray *disks = json_array_new();

        for (char **disk = args + 1; *disk; disk++)
            json_array_add_string_element(disks, *disk);
        json_object_set_array_member(arguments, "disks", disks);
    }
    arguments_add_text(arguments, "description", o->description);
    if (arguments_add_size(arguments, "granularity", o->granularity, err) < 0)
        return -1;
    return client_act(c, object, "checkpoint-create", g_steal_pointer(&arguments), err);
}

static const struct option create_options[] = {
    {"description", 0, OPTION_TEXT, "TEXT", offsetof(struct create_options, description),
     "what it is for"},
    {"granularity", 'g', OPTION_TEXT, "N", offsetof(struct create_options, granularity),
     "bytes that one bit of its bitmaps stands for"},
    {NULL},
};

const struct command cmd_checkpoint_create = {
    .name = "checkpoint create",
    .synopsis = "NAME [DISK...] [--description TEXT] [--granularity N]",
    .summary = "record what changes from now on, on all disks",
    .help = "With DISKs: on these alone, all at the same instant.\n",
    .min_args = 1,
    .max_args = -1,
    .acts = true,
    .options = create_options,
    .options_size = sizeof(struct create_options),
    .run = run_checkpoint_create,
};

static int run_checkpoint_delete(struct client *c, const void *options, char **args, GError **err)
{
    g_autofree char *object = g_strdup_printf("checkpoint %s", args[0]);
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "name", args[0]);
    return client_act(c, object, "checkpoint-delete", arguments, err);
}

const struct command cmd_checkpoint_delete = {
    .name = "checkpoint delete",
    .synopsis = "NAME",
    .summary = "delete a checkpoint and its bitmaps; no other one changes",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .run = run_checkpoint_delete,
};
