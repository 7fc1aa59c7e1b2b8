/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transaction. Its actions are the commands of the other families that have one (struct
 * qmp_command), and `abort`.
 */
#include "common/util/error.h"
#include "server/control/control-private.h"
#include "server/control/transaction.h"

#include <string.h>

static int prepare_abort(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    return fail(err, "Transaction aborted using Abort action");
}

static const struct action abort_all = {.prepare = prepare_abort};

static const struct qmp_command only_actions[] = {
    {"abort", "Fails.", no_args, .action = &abort_all},
    {.name = NULL},
};
static const struct qmp_command *const families[] = {
    only_actions, bitmap_commands, view_commands, checkpoint_commands, backup_commands, NULL};

static const struct arg *action_args(const char *type)
{
    const struct qmp_command *c = qmp_find(families, type);

    return c && c->action ? c->args : NULL;
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
static const struct arg transaction_args[] = {
    ARG("actions", ARG_LIST, .of = &action),
    ARG_OPT("properties", ARG_STRUCT, .of = properties),
    ARGS_END,
};

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

static void transaction(struct qmp_call *call, JsonObject *args)
{
    JsonArray *actions = arg_list(args, "actions");
    g_autoptr(GPtrArray) types = g_ptr_array_new(), data = g_ptr_array_new();
    g_autoptr(GError) error = NULL;

    if (check_completion_mode(args, actions, &error) < 0) {
        qmp_call_fail(call, error);
        return;
    }
    for (guint i = 0; i < json_array_get_length(actions); i++) {
        JsonObject *o = json_array_get_object_element(actions, i);

        g_ptr_array_add(types, (gpointer)qmp_find(families, arg_string(o, "type"))->action);
        g_ptr_array_add(data, arg_object(o, "data"));
    }
    transaction_run(call, (const struct action *const *)types->pdata,
                    (JsonObject *const *)data->pdata, types->len);
}

/* clang-format off */
const struct qmp_command transaction_commands[] = {
    {"transaction", "Runs actions that take effect at one instant, on all their disks, or not at "
                    "all.",
     transaction_args, .start = transaction},
    {.name = NULL},
};
/* clang-format on */
