/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl view: point-in-time views. */
#include "client/cli/command.h"
#include "client/cli/table.h"

static char *state_text(const struct view_entry *v)
{
    if (v->broken)
        return g_strdup_printf("broken: %s", v->reason ? v->reason : "no reason given");
    return g_strdup(v->exported ? "exported" : "idle");
}

static void list_table(struct client *c, const inventory *i)
{
    static const char *const headers[] = {"NAME",    "DISK",  ">SIZE", ">SCRATCH",
                                          "INSTANT", "STATE", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint n = 0; n < i->views->len; n++) {
        const struct view_entry *v = &g_array_index(i->views, struct view_entry, n);
        g_autofree char *state = state_text(v);

        table_add(t, v->name);
        table_add(t, v->disk);
        table_add_size(t, v->size);
        table_add_size(t, v->scratch);
        table_add_time(t, v->instant);
        table_add(t, state);
    }
    table_print(t, c->out);
}

static int run_view_list(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(inventory) i = client_inventory(c, err);

    if (!i)
        return -1;
    if (c->json) {
        /* The server's own words say it best. */
        client_print_json(c, i->views_reply, false);
    } else {
        list_table(c, i);
    }
    return 0;
}

const struct command cmd_view_list = {
    .name = "view list",
    .synopsis = "",
    .summary = "the point-in-time views",
    .run = run_view_list,
};

static int run_view_create(struct client *c, const void *options, char **args, GError **err)
{
    g_autofree char *object = g_strdup_printf("disk %s: view %s", args[0], args[1]);
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "disk", args[0]);
    json_object_set_string_member(arguments, "name", args[1]);
    return client_act(c, object, "view-create", arguments, err);
}

const struct command cmd_view_create = {
    .name = "view create",
    .synopsis = "DISK NAME",
    .summary = "freeze a disk as it is now under the name NAME",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_view_create,
};

static int run_view_delete(struct client *c, const void *options, char **args, GError **err)
{
    g_autofree char *object = g_strdup_printf("view %s", args[0]);
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "name", args[0]);
    return client_act(c, object, "view-delete", arguments, err);
}

const struct command cmd_view_delete = {
    .name = "view delete",
    .synopsis = "NAME",
    .summary = "delete a view",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .run = run_view_delete,
};
