/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/args.h"
#include "common/util/error.h"

#include <string.h>

const struct arg no_args[] = {ARGS_END};

/* `path` is the full name of what is being looked at. */
static int check_value(const struct arg *a, JsonNode *value, JsonObject *beside, GString *path,
                       GError **err);

static int wrong_type(const GString *path, const char *expected, GError **err)
{
    return fail(err, "Invalid parameter type for '%s', expected: %s", path->str, expected);
}

/* QEMU names the element of a list "null" where it does not give the full name. */
static const char *last_name(const struct arg *a)
{
    return a->name ? a->name : "null";
}

static bool holds(JsonNode *value, GType type)
{
    return JSON_NODE_HOLDS_VALUE(value) && json_node_get_value_type(value) == type;
}

static int check_object(const struct arg *table, JsonObject *object, GString *path, GError **err)
{
    size_t length = path->len;
    JsonObjectIter iter;
    const char *name;

    for (const struct arg *a = table; a->name; a++) {
        JsonNode *value = json_object_get_member(object, a->name);

        g_string_append_printf(path, "%s%s", length ? "." : "", a->name);
        if (!value && !a->optional)
            return fail(err, "Parameter '%s' is missing", path->str);
        if (value && check_value(a, value, object, path, err) < 0)
            return -1;
        g_string_truncate(path, length);
    }
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &name, NULL)) {
        const struct arg *a = table;

        while (a->name && strcmp(a->name, name) != 0)
            a++;
        if (!a->name)
            return fail(err, "Parameter '%s%s%s' is unexpected", path->str, length ? "." : "",
                        name);
    }
    return 0;
}

static int check_struct(const struct arg *table, JsonNode *value, GString *path, GError **err)
{
    if (!JSON_NODE_HOLDS_OBJECT(value))
        return wrong_type(path, "object", err);
    return check_object(table, json_node_get_object(value), path, err);
}

static int check_list(const struct arg *a, JsonNode *value, GString *path, GError **err)
{
    size_t length = path->len;
    JsonArray *array;

    if (!JSON_NODE_HOLDS_ARRAY(value))
        return wrong_type(path, "array", err);
    array = json_node_get_array(value);
    for (guint i = 0; i < json_array_get_length(array); i++) {
        g_string_append_printf(path, "[%u]", i);
        if (check_value(a->of, json_array_get_element(array, i), NULL, path, err) < 0)
            return -1;
        g_string_truncate(path, length);
    }
    return 0;
}

static int check_integer(const struct arg *a, JsonNode *value, GString *path, GError **err)
{
    bool is_integer = holds(value, G_TYPE_INT64);
    int64_t n = is_integer ? json_node_get_int(value) : 0;

    if (a->type == ARG_INT)
        return is_integer ? 0 : wrong_type(path, "integer", err);
    if (!is_integer || (a->type == ARG_SIZE && n < 0))
        return fail(err, "Parameter '%s' expects uint64", path->str);
    if (a->type == ARG_UINT32 && (n < 0 || n > UINT32_MAX))
        return fail(err, "Parameter '%s' expects uint32_t", last_name(a));
    return 0;
}

static int check_choice(const struct arg *a, JsonNode *value, GString *path, GError **err)
{
    const char *chosen;

    if (!holds(value, G_TYPE_STRING))
        return wrong_type(path, "string", err);
    chosen = json_node_get_string(value);
    if (a->type == ARG_TAG ? a->branch(chosen) != NULL : g_strv_contains(a->values, chosen))
        return 0;
    return fail(err, "Parameter '%s' does not accept value '%s'", last_name(a), chosen);
}

static int check_alternate(const struct arg *a, JsonNode *value, GString *path, GError **err)
{
    if (holds(value, G_TYPE_STRING))
        return 0;
    if (!JSON_NODE_HOLDS_OBJECT(value))
        return fail(err, "Invalid parameter type for '%s', expected: %s", last_name(a),
                    a->alternate);
    return check_object(a->of, json_node_get_object(value), path, err);
}

static int check_value(const struct arg *a, JsonNode *value, JsonObject *beside, GString *path,
                       GError **err)
{
    switch (a->type) {
    case ARG_STRING:
        return holds(value, G_TYPE_STRING) ? 0 : wrong_type(path, "string", err);
    case ARG_BOOL:
        return holds(value, G_TYPE_BOOLEAN) ? 0 : wrong_type(path, "boolean", err);
    case ARG_INT:
    case ARG_UINT32:
    case ARG_SIZE:
        return check_integer(a, value, path, err);
    case ARG_ENUM:
    case ARG_TAG:
        return check_choice(a, value, path, err);
    case ARG_STRUCT:
        return check_struct(a->of, value, path, err);
    case ARG_LIST:
        return check_list(a, value, path, err);
    case ARG_ALTERNATE:
        return check_alternate(a, value, path, err);
    case ARG_BRANCH:
        break;
    }
    return check_struct(a->branch(arg_string(beside, "type")), value, path, err);
}

int args_check(const struct arg *table, JsonObject *args, GError **err)
{
    GString *path = g_string_new(NULL);
    int result = check_object(table, args, path, err);

    g_string_free(path, TRUE);
    return result;
}

/* ---- values ---- */

const char *arg_string(JsonObject *args, const char *name)
{
    return json_object_get_string_member_with_default(args, name, NULL);
}

bool arg_bool(JsonObject *args, const char *name, bool otherwise)
{
    return json_object_get_boolean_member_with_default(args, name, otherwise);
}

int64_t arg_int(JsonObject *args, const char *name, int64_t otherwise)
{
    return json_object_get_int_member_with_default(args, name, otherwise);
}

JsonObject *arg_object(JsonObject *args, const char *name)
{
    return json_object_has_member(args, name) ? json_object_get_object_member(args, name) : NULL;
}

JsonArray *arg_list(JsonObject *args, const char *name)
{
    return json_object_has_member(args, name) ? json_object_get_array_member(args, name) : NULL;
}
