/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands about the session and the server as a whole.
 */
#include "server/control/control-private.h"

int cmd_query_version(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    *value = qmp_version();
    return 0;
}

int cmd_query_commands(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonArray *list = json_array_new();

    for (const struct qmp_command *c = call->client->commands; c->name; c++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "name", c->name);
        json_array_add_object_element(list, o);
    }
    *value = qmp_array(list);
    return 0;
}

/* QEMU's -name: we have none. */
int cmd_query_name(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    return 0;
}

int cmd_query_status(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonObject *o = json_object_new();

    json_object_set_boolean_member(o, "running", TRUE);
    json_object_set_string_member(o, "status", "running");
    *value = qmp_object(o);
    return 0;
}

int cmd_quit(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    call_control(call)->quit = true;
    server_quit(call_server(call));
    return 0;
}
