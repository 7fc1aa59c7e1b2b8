/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of a QMP client: qmp_handle and args_check, with the real commands' names and tables of
 * arguments. The commands do nothing here, but read every argument that has passed the check in the
 * way that real commands do; it must be what the table says.
 *
 * Input: a stream as it comes through the control socket.
 */
#include "common/json/read.h"
#include "common/json/stream.h"
#include "common/json/write.h"
#include "common/util/error.h"
#include "fuzz/fuzz.h"
#include "server/control/control-private.h"

#include <string.h>

const char fuzz_name[] = "qmp";

/* ---- commands ---- */

static void read_object(const struct arg *table, JsonObject *args);

static void read_value(const struct arg *a, JsonNode *value, JsonObject *beside)
{
    switch (a->type) {
    case ARG_STRING:
        CHECK(json_node_get_string(value) != NULL);
        break;
    case ARG_ENUM:
        CHECK(g_strv_contains(a->values, json_node_get_string(value)));
        break;
    case ARG_TAG:
        CHECK(a->branch(json_node_get_string(value)) != NULL);
        break;
    case ARG_BOOL:
        CHECK(json_node_get_value_type(value) == G_TYPE_BOOLEAN);
        break;
    case ARG_INT:
        CHECK(json_node_get_value_type(value) == G_TYPE_INT64);
        break;
    case ARG_UINT32:
        CHECK(json_node_get_int(value) >= 0 && json_node_get_int(value) <= UINT32_MAX);
        break;
    case ARG_SIZE:
        CHECK(json_node_get_value_type(value) == G_TYPE_INT64 && json_node_get_int(value) >= 0);
        break;
    case ARG_STRUCT:
        read_object(a->of, json_node_get_object(value));
        break;
    case ARG_LIST: {
        JsonArray *list = json_node_get_array(value);
        for (guint i = 0; i < json_array_get_length(list); i++)
            read_value(a->of, json_array_get_element(list, i), NULL);
        break;
    }
    case ARG_ALTERNATE:
        if (JSON_NODE_HOLDS_OBJECT(value))
            read_object(a->of, json_node_get_object(value));
        else
            CHECK(json_node_get_string(value) != NULL);
        break;
    case ARG_BRANCH:
        read_object(a->branch(arg_string(beside, "type")), json_node_get_object(value));
        break;
    }
}

/* Every argument that is there is in the table, and every one that the table needs is there. */
static void read_object(const struct arg *table, JsonObject *args)
{
    guint known = 0;

    CHECK(args);
    for (const struct arg *a = table; a->name; a++) {
        JsonNode *value = json_object_get_member(args, a->name);

        CHECK(value != NULL || a->optional);
        if (!value)
            continue;
        known++;
        read_value(a, value, args);
    }
    CHECK(known == json_object_get_size(args));
}

/* All commands do this: answer with their arguments. */
static int run(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    read_object(call->command->args, args);
    *value = qmp_object(json_object_ref(args));
    return 0;
}

static struct qmp_command *make_commands(void)
{
    GArray *commands = g_array_new(TRUE, FALSE, sizeof(struct qmp_command));

    for (unsigned i = 1; control_commands[i]; i++) {
        for (const struct qmp_command *c = control_commands[i]; c->name; c++) {
            struct qmp_command copy = {.name = c->name, .args = c->args, .run = run};
            g_array_append_val(commands, copy);
        }
    }
    return (struct qmp_command *)g_array_free(commands, FALSE);
}

/* ---- replies ---- */

static bool is_class(const char *class)
{
    static const char *const classes[] = {"GenericError", "CommandNotFound", "DeviceNotActive",
                                          "DeviceNotFound", NULL};
    return class && g_strv_contains(classes, class);
}

/* One line, ASCII, `return` or `error`, and the id as it came. */
static void check_reply(const GString *reply, const char *id)
{
    CHECK(reply->len > 2 && g_str_has_suffix(reply->str, "}\r\n"));
    for (size_t i = 0; i + 2 < reply->len; i++)
        CHECK(reply->str[i] >= 0x20 && reply->str[i] < 0x7f);
    g_autoptr(JsonNode) node = json_from_string(reply->str, NULL);
    CHECK(node && JSON_NODE_HOLDS_OBJECT(node));
    JsonObject *o = json_node_get_object(node);
    bool failed = json_object_has_member(o, "error");
    CHECK(failed != json_object_has_member(o, "return"));
    CHECK(json_object_get_size(o) == 1u + json_object_has_member(o, "id"));
    CHECK(*id != '\0' || !json_object_has_member(o, "id"));
    if (failed) {
        JsonObject *error = json_object_get_object_member(o, "error");
        CHECK(is_class(json_object_get_string_member(error, "class")));
        CHECK(*json_object_get_string_member(error, "desc") != '\0');
        CHECK(json_object_get_size(error) == 2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct json_limits limits = {.bytes = 1 << 20, .tokens = 10000, .depth = 1024};
    g_autofree struct qmp_command *commands = make_commands();
    g_autoptr(GString) reply = g_string_new(NULL);
    const struct qmp_command *const tables[] = {qmp_negotiation, commands, NULL};
    struct qmp_client client = {
        .commands = tables, .negotiated = size > 0 && data[0] == '\n', .out = reply};
    struct json_stream *j = json_stream_new(&limits);
    size_t used;

    while (size > 0) {
        g_autoptr(GError) err = NULL;
        bool negotiated = client.negotiated;
        enum json_stream_result r = json_stream_feed(j, (const char *)data, size, &used, &err);

        g_string_truncate(reply, 0);
        data += used;
        size -= used;
        if (r == JSON_STREAM_VALUE)
            qmp_handle(&client, json_stream_text(j), json_stream_members(j), json_stream_id(j));
        else if (r == JSON_STREAM_ERROR)
            qmp_error(reply, err);
        else
            break;
        CHECK(!client.open);
        check_reply(reply, r == JSON_STREAM_VALUE ? json_stream_id(j)->str : "");
        /* Only qmp_capabilities can succeed first. What it has negotiated stays negotiated. */
        CHECK(negotiated || client.negotiated ||
              strstr(reply->str, "\"return\"") != reply->str + 1);
        CHECK(!negotiated || client.negotiated);
    }
    json_stream_free(j);
    return 0;
}
