/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transaction, and the commands that are one action by themselves. Each action is staged in order
 * and sees what those before it did; the first that fails ends it, and nothing has happened.
 */
#include "common/util/error.h"
#include "server/control/control-private.h"

#include <string.h>

static const struct action *find_action(const char *type)
{
    const struct action *a = control_actions;

    while (a->type && strcmp(a->type, type) != 0)
        a++;
    return a->type ? a : NULL;
}

static const struct arg *action_args(const char *type)
{
    const struct action *a = find_action(type);

    return a ? a->args : NULL;
}

static const struct arg action_members[] = {
    ARG("type", ARG_TAG, .branch = action_args),
    ARG("data", ARG_BRANCH, .branch = action_args),
    ARGS_END,
};
static const struct arg action = {.type = ARG_STRUCT, .of = action_members};
static const char *const completion_modes[] = {"individual", "grouped", NULL};
static const struct arg properties[] = {
    ARG_OPT("completion-mode", ARG_ENUM, .values = completion_modes),
    ARGS_END,
};
const struct arg transaction_args[] = {
    ARG("actions", ARG_LIST, .of = &action),
    ARG_OPT("properties", ARG_STRUCT, .of = properties),
    ARGS_END,
};

static void staging_begin(struct staging *t, struct server *s)
{
    t->server = s;
    t->instant = instant_new();
    t->names = g_ptr_array_new_with_free_func(g_free);
    t->removed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static int staging_end(struct staging *t, int result, GError **err)
{
    if (result == 0)
        result = instant_commit(t->instant, err);
    else
        instant_abort(t->instant);
    for (guint i = 0; i < t->names->len; i++)
        server_release_node_name(t->server, t->names->pdata[i]);
    g_ptr_array_unref(t->names);
    g_hash_table_unref(t->removed);
    return result;
}

int control_run_action(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    const struct action *a = find_action(call->command->name);
    struct staging t;

    staging_begin(&t, call_server(call));
    return staging_end(&t, a->stage(&t, args, err), err);
}

int stage_abort(struct staging *t, JsonObject *data, GError **err)
{
    return fail(err, "Transaction aborted using Abort action");
}

/* `grouped` says what becomes of the other jobs when one fails; so far no action begins a job. */
static int check_completion_mode(JsonObject *args, JsonArray *actions, GError **err)
{
    JsonObject *given = arg_object(args, "properties");
    const char *mode = given ? arg_string(given, "completion-mode") : NULL;

    if (!mode || strcmp(mode, "individual") == 0 || json_array_get_length(actions) == 0)
        return 0;
    return fail(err, "Action '%s' does not support transaction property completion-mode = %s",
                arg_string(json_array_get_object_element(actions, 0), "type"), mode);
}

int cmd_transaction(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonArray *actions = arg_list(args, "actions");
    struct staging t;
    int result = 0;

    if (check_completion_mode(args, actions, err) < 0)
        return -1;
    staging_begin(&t, call_server(call));
    for (guint i = 0; i < json_array_get_length(actions) && result == 0; i++) {
        JsonObject *o = json_array_get_object_element(actions, i);

        result = find_action(arg_string(o, "type"))->stage(&t, arg_object(o, "data"), err);
    }
    return staging_end(&t, result, err);
}
