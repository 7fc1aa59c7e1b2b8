/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views, our own commands: view-create (as an action), view-delete, query-views.
 */
#include "common/util/error.h"
#include "server/control/control-private.h"
#include "server/control/in-turn.h"
#include "server/control/transaction.h"
#include "server/registry/commit.h"

#include <string.h>

static const char *const cbw_errors[] = {
    [CBW_BREAK_SNAPSHOT] = "break-snapshot",
    [CBW_BREAK_GUEST_WRITE] = "break-guest-write",
    NULL,
};
static const struct arg view_create_args[] = {
    ARG("disk", ARG_STRING),
    ARG("name", ARG_STRING),
    ARG_OPT("on-cbw-error", ARG_ENUM, .values = cbw_errors),
    ARG_OPT("scratch-limit", ARG_SIZE),
    ARGS_END,
};
static const struct arg view_delete_args[] = {ARG("name", ARG_STRING), ARGS_END};

/* ---- view-create ---- */

static void disks_of_view(struct server *s, JsonObject *data, GPtrArray *disks)
{
    struct disk *d = server_find_disk(s, arg_string(data, "disk"));

    if (d)
        g_ptr_array_add(disks, d);
}

static int stage_view(struct transaction *t, struct disk *d, JsonObject *data, GError **err)
{
    const char *on_error = arg_string(data, "on-cbw-error");
    struct view_options options = {
        .on_error = server_options(transaction_server(t))->on_cbw_error,
        .scratch_limit = (uint64_t)arg_int(data, "scratch-limit", 0),
    };

    if (on_error)
        options.on_error = strcmp(on_error, cbw_errors[CBW_BREAK_SNAPSHOT]) == 0
                               ? CBW_BREAK_SNAPSHOT
                               : CBW_BREAK_GUEST_WRITE;
    return instant_view_create(transaction_instant(t), d, arg_string(data, "name"), &options, NULL,
                               err);
}

/* The name stays reserved until there is a view of that name, or will be none. */
static int prepare_view(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    const char *disk = arg_string(data, "disk"), *name = arg_string(data, "name");
    struct server *s = transaction_server(t);
    struct node *n = server_find_node(s, disk);

    if (!n)
        return fail(err, "Node '%s' not found", disk);
    if (!node_to_disk(n))
        return fail(err, "Node '%s' is not a disk", disk);
    if (server_reserve_node_name(s, name, err) < 0)
        return -1;
    if (stage_view(t, node_to_disk(n), data, err) < 0) {
        server_release_node_name(s, name);
        return -1;
    }
    *state = g_strdup(name);
    return 0;
}

static void clean_view(struct transaction *t, void *name)
{
    server_release_node_name(transaction_server(t), name);
    g_free(name);
}

static const struct action create_view = {
    .disks = disks_of_view, .prepare = prepare_view, .clean = clean_view};

/* ---- the others ---- */

static struct view *find_view(struct server *s, const char *name, GError **err)
{
    struct node *n = server_find_node(s, name);

    if (!n)
        fail(err, "Node '%s' not found", name);
    else if (!node_to_view(n))
        fail(err, "Node '%s' is not a view", name);
    return n ? node_to_view(n) : NULL;
}

struct deletion {
    struct qmp_call *call;
    struct turn *turn;
};

static void deletion_ends(void *opaque, const GError *error)
{
    struct deletion *d = opaque;

    control_end_turn(d->call, d->turn, error ? g_error_copy(error) : NULL);
    g_free(d);
}

static void delete_in_turn(struct qmp_call *call, struct turn *turn)
{
    struct deletion *d = g_new(struct deletion, 1);
    struct server *s = call_server(call);
    struct instant *i = instant_new();
    g_autoptr(GError) error = NULL;
    struct view *v = find_view(s, arg_string(call->args, "name"), &error);

    *d = (struct deletion){.call = call, .turn = turn};
    if (v && instant_view_delete(i, v, &error) == 0) {
        server_commit(s, i, deletion_ends, d);
        return;
    }
    instant_abort(i);
    deletion_ends(d, error);
}

static void disks_of_deleted(struct qmp_call *call, GPtrArray *disks)
{
    control_add_disk(call_server(call), arg_string(call->args, "name"), disks);
}

static void delete_view(struct qmp_call *call, JsonObject *args)
{
    control_run_in_turn(call, disks_of_deleted, delete_in_turn);
}

static JsonObject *describe_view(struct view *v)
{
    JsonObject *o = json_object_new(), *instant = json_object_new();
    struct view_info info;

    view_info(v, &info);
    json_object_set_int_member(instant, "seconds", info.instant_usec / G_USEC_PER_SEC);
    json_object_set_int_member(instant, "microseconds", info.instant_usec % G_USEC_PER_SEC);
    json_object_set_string_member(o, "name", view_name(v));
    json_object_set_string_member(o, "disk", disk_name(view_disk(v)));
    json_object_set_int_member(o, "size", (gint64)info.size);
    json_object_set_object_member(o, "instant", instant);
    json_object_set_int_member(o, "scratch-bytes", (gint64)info.scratch_bytes);
    if (info.scratch_limit > 0)
        json_object_set_int_member(o, "scratch-limit", (gint64)info.scratch_limit);
    json_object_set_string_member(o, "on-cbw-error", cbw_errors[info.on_error]);
    json_object_set_boolean_member(o, "broken", info.broken);
    if (info.broken)
        json_object_set_string_member(o, "reason", info.reason);
    json_object_set_boolean_member(o, "in-use", info.in_use);
    return o;
}

static int query_views(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    g_autoptr(GPtrArray) views = server_views(call_server(call));
    JsonArray *list = json_array_new();

    for (guint i = 0; i < views->len; i++)
        json_array_add_object_element(list, describe_view(views->pdata[i]));
    *value = qmp_array(list);
    return 0;
}

/* clang-format off */
const struct qmp_command view_commands[] = {
    {"view-create", "Makes a view of a disk.",
     view_create_args, .start = transaction_of_one, .action = &create_view},
    {"view-delete", "Deletes a view.",
     view_delete_args, .start = delete_view},
    {"query-views", "Returns the views, by disk, oldest first.",
     no_args, .run = query_views},
    {.name = NULL},
};
/* clang-format on */
