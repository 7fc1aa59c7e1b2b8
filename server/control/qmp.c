/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/qmp.h"
#include "common/json/read.h"
#include "common/json/write.h"
#include "common/util/error.h"

#include <string.h>

/* ---- replies ---- */

static const char *error_class(const GError *error)
{
    if (error->domain != FLEECE_ERROR)
        return "GenericError";
    switch ((enum fleece_error)error->code) {
    case FLEECE_ERROR_COMMAND_NOT_FOUND:
        return "CommandNotFound";
    case FLEECE_ERROR_DEVICE_NOT_ACTIVE:
        return "DeviceNotActive";
    case FLEECE_ERROR_DEVICE_NOT_FOUND:
        return "DeviceNotFound";
    case FLEECE_ERROR_GENERIC:
        break;
    }
    return "GenericError";
}

static void append_error(GString *out, const GError *error)
{
    g_string_append_printf(out, "\"error\": {\"class\": \"%s\", \"desc\": ", error_class(error));
    json_value_append_string(out, error->message);
    g_string_append_c(out, '}');
}

void qmp_error(GString *out, const GError *error)
{
    g_string_append_c(out, '{');
    append_error(out, error);
    g_string_append(out, "}\r\n");
}

static void append_reply(GString *out, JsonNode *value, const GError *error, const GString *id)
{
    g_string_append_c(out, '{');
    if (error) {
        append_error(out, error);
    } else {
        g_string_append(out, "\"return\": ");
        if (value)
            json_value_append(out, value);
        else
            g_string_append(out, "{}");
    }
    if (id->len > 0) {
        g_string_append(out, ", \"id\": ");
        json_value_append_text(out, id->str, id->len);
    }
    g_string_append(out, "}\r\n");
}

JsonNode *qmp_object(JsonObject *object)
{
    JsonNode *node = json_node_init_object(json_node_alloc(), object);

    json_object_unref(object);
    return node;
}

JsonNode *qmp_array(JsonArray *array)
{
    JsonNode *node = json_node_init_array(json_node_alloc(), array);

    json_array_unref(array);
    return node;
}

/* ---- what is said without being asked ---- */

JsonNode *qmp_version(void)
{
    JsonObject *version = json_object_new(), *qemu = json_object_new();

    json_object_set_int_member(qemu, "major", 10);
    json_object_set_int_member(qemu, "minor", 0);
    json_object_set_int_member(qemu, "micro", 0);
    json_object_set_object_member(version, "qemu", qemu);
    json_object_set_string_member(version, "package", PACKAGE_NAME " " PACKAGE_VERSION);
    return qmp_object(version);
}

void qmp_greeting(GString *out)
{
    g_autoptr(JsonNode) version = qmp_version();

    g_string_append(out, "{\"QMP\": {\"version\": ");
    json_value_append(out, version);
    g_string_append(out, ", \"capabilities\": []}}\r\n");
}

void qmp_event(GString *out, const char *name, JsonObject *data, int64_t time_usec)
{
    g_string_append_printf(out, "{\"event\": \"%s\", ", name);
    if (data) {
        g_autoptr(JsonNode) node = qmp_object(data);

        g_string_append(out, "\"data\": ");
        json_value_append(out, node);
        g_string_append(out, ", ");
    }
    g_string_append_printf(out,
                           "\"timestamp\": {\"seconds\": %" G_GINT64_FORMAT
                           ", \"microseconds\": %" G_GINT64_FORMAT "}}\r\n",
                           time_usec / G_USEC_PER_SEC, time_usec % G_USEC_PER_SEC);
}

/* ---- requests ---- */

struct envelope {
    const char *execute;
    JsonObject *arguments; /* NULL: not given */
};

static int open_envelope(JsonNode *request, struct envelope *e, GError **err)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;

    if (!JSON_NODE_HOLDS_OBJECT(request))
        return fail(err, "QMP input must be a JSON object");
    json_object_iter_init(&iter, json_node_get_object(request));
    while (json_object_iter_next(&iter, &name, &value)) {
        if (strcmp(name, "execute") == 0) {
            if (!JSON_NODE_HOLDS_VALUE(value) || json_node_get_value_type(value) != G_TYPE_STRING)
                return fail(err, "QMP input member 'execute' must be a string");
            e->execute = json_node_get_string(value);
        } else if (strcmp(name, "arguments") == 0) {
            if (!JSON_NODE_HOLDS_OBJECT(value))
                return fail(err, "QMP input member 'arguments' must be an object");
            e->arguments = json_node_get_object(value);
        } else if (strcmp(name, "id") != 0) {
            return fail(err, "QMP input member '%s' is unexpected", name);
        }
    }
    return e->execute ? 0 : fail(err, "QMP input lacks member 'execute'");
}

const struct qmp_command *qmp_find(const struct qmp_command *const *commands, const char *name)
{
    for (; *commands; commands++)
        for (const struct qmp_command *c = *commands; c->name; c++)
            if (strcmp(c->name, name) == 0)
                return c;
    return NULL;
}

static const struct qmp_command *find_command(const struct qmp_client *client, const char *name,
                                              GError **err)
{
    const struct qmp_command *c = qmp_find(client->commands, name);

    if (!client->negotiated && c != qmp_negotiation)
        g_set_error(err, FLEECE_ERROR, FLEECE_ERROR_COMMAND_NOT_FOUND,
                    "Expecting capabilities negotiation with 'qmp_capabilities'");
    else if (client->negotiated && c == qmp_negotiation)
        g_set_error(err, FLEECE_ERROR, FLEECE_ERROR_COMMAND_NOT_FOUND,
                    "Capabilities negotiation is already complete, command ignored");
    else if (!c)
        g_set_error(err, FLEECE_ERROR, FLEECE_ERROR_COMMAND_NOT_FOUND,
                    "The command %s has not been found", name);
    else
        return c;
    return NULL;
}

/* The call is over: its answer is `error`, or `value` if `error` is NULL. */
static void answer(struct qmp_call *call, JsonNode *value, const GError *error)
{
    struct qmp_client *client = call->client;

    if (client) {
        append_reply(client->out, value, error, call->id);
        client->open = NULL;
    }
    json_object_unref(call->args);
    g_string_free(call->id, TRUE);
    g_free(call);
    if (client && !client->handling)
        client->answered(client->opaque);
}

void qmp_call_return(struct qmp_call *call, JsonNode *value)
{
    answer(call, value, NULL);
    g_clear_pointer(&value, json_node_unref);
}

void qmp_call_fail(struct qmp_call *call, const GError *error)
{
    g_autoptr(GError) silent = NULL;

    if (!error) /* never taken for success */
        fail(&silent, "the command failed, and did not say why");
    answer(call, NULL, error ? error : silent);
}

static void run(struct qmp_call *call)
{
    g_autoptr(GError) error = NULL;
    JsonNode *value = NULL;

    if (call->command->start) {
        call->command->start(call, call->args);
    } else if (call->command->run(call, call->args, &value, &error) < 0) {
        g_clear_pointer(&value, json_node_unref);
        qmp_call_fail(call, error);
    } else {
        qmp_call_return(call, value);
    }
}

static void open_call(struct qmp_client *client, JsonNode *request, const GString *id)
{
    struct qmp_call *call = g_new0(struct qmp_call, 1);
    g_autoptr(GError) error = NULL;
    struct envelope e = {0};

    call->client = client;
    call->context = client->context;
    call->id = g_string_new_len(id->str, (gssize)id->len);
    client->open = call;
    if (open_envelope(request, &e, &error) == 0)
        call->command = find_command(client, e.execute, &error);
    call->args = e.arguments ? json_object_ref(e.arguments) : json_object_new();
    if (call->command && args_check(call->command->args, call->args, &error) == 0)
        run(call);
    else
        qmp_call_fail(call, error);
}

void qmp_handle(struct qmp_client *client, const GString *text, size_t members, const GString *id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) request = json_value_parse(text, members, &error);

    client->handling = true;
    if (request)
        open_call(client, request, id);
    else
        qmp_error(client->out, error); /* without an id: there may be two */
    client->handling = false;
}

void qmp_client_leave(struct qmp_client *client)
{
    if (client->open)
        client->open->client = NULL;
    client->open = NULL;
}

/* ---- qmp_capabilities ---- */

/* QEMU knows one capability, `oob`; we offer none. */
static const char *const capabilities[] = {"oob", NULL};
static const struct arg capability = {.type = ARG_ENUM, .values = capabilities};
static const struct arg capabilities_args[] = {
    ARG_OPT("enable", ARG_LIST, .of = &capability),
    ARGS_END,
};

static int negotiate(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonArray *enable = arg_list(args, "enable");

    if (enable && json_array_get_length(enable) > 0)
        return fail(err, "Capability %s not available", json_array_get_string_element(enable, 0));
    call->client->negotiated = true;
    return 0;
}

const struct qmp_command qmp_negotiation[] = {
    {"qmp_capabilities", "Ends the negotiation.", capabilities_args, .run = negotiate},
    {.name = NULL},
};
