/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands about the server as a whole.
 */
#include "server/control/control-private.h"

static int query_version(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    *value = qmp_version();
    return 0;
}

static int query_commands(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonArray *list = json_array_new();

    for (const struct qmp_command *const *table = call->client->commands; *table; table++) {
        for (const struct qmp_command *c = *table; c->name; c++) {
            JsonObject *o = json_object_new();

            json_object_set_string_member(o, "name", c->name);
            json_array_add_object_element(list, o);
        }
    }
    *value = qmp_array(list);
    return 0;
}

/* QEMU's -name: we have none. */
static int query_name(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    return 0;
}

static int query_status(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonObject *o = json_object_new();

    json_object_set_boolean_member(o, "running", TRUE);
    json_object_set_string_member(o, "status", "running");
    *value = qmp_object(o);
    return 0;
}

static int quit(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    call_control(call)->quit = true;
    server_quit(call_server(call));
    return 0;
}

/* clang-format off */
const struct qmp_command server_commands[] = {
    {"query-version", "Returns the version of the dialect and of the server.",
     no_args, .run = query_version},
    {"query-commands", "Returns the names of all commands.",
     no_args, .run = query_commands},
    {"query-name", "Returns the server's name: it has none.",
     no_args, .run = query_name},
    {"query-status", "Returns that the server is running.",
     no_args, .run = query_status},
    {"quit", "Ends the server in order, as SIGTERM does.",
     no_args, .run = quit},
    {.name = NULL},
};
/* clang-format on */
