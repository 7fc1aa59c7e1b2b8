/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/json/value.h"

/* The member if it is a plain value of this type, else NULL. */
static JsonNode *member_of_type(JsonObject *object, const char *name, GType type)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node
                                                                                         : NULL;
}

const char *json_member_string(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_type(object, name, G_TYPE_STRING);

    return node ? json_node_get_string(node) : NULL;
}

JsonObject *json_member_object(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *json_member_array(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

uint64_t json_member_size(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_type(object, name, G_TYPE_INT64);
    gint64 value = node ? json_node_get_int(node) : 0;

    return value > 0 ? (uint64_t)value : 0;
}

bool json_member_bool(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_type(object, name, G_TYPE_BOOLEAN);

    return node && json_node_get_boolean(node);
}

void json_add_string(JsonBuilder *b, const char *name, const char *value)
{
    json_builder_set_member_name(b, name);
    if (value)
        json_builder_add_string_value(b, value);
    else
        json_builder_add_null_value(b);
}

void json_add_size(JsonBuilder *b, const char *name, uint64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, (gint64)MIN(value, (uint64_t)G_MAXINT64));
}

void json_add_bool(JsonBuilder *b, const char *name, bool value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}
