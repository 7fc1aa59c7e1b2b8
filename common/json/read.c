/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/json/read.h"
#include "common/json/stream.h"
#include "common/util/error.h"

#include <stdbool.h>

/* ---- trees ---- */

/* The members of all objects in `node` together. The recursion is as deep as the text was nested,
 * which the stream has limited. */
static size_t count_members(JsonNode *node)
{
    size_t count = 0;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObjectIter iter;
        JsonNode *value;

        json_object_iter_init(&iter, json_node_get_object(node));
        while (json_object_iter_next(&iter, NULL, &value))
            count += 1 + count_members(value);
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);

        for (guint i = 0; i < json_array_get_length(array); i++)
            count += count_members(json_array_get_element(array, i));
    }
    return count;
}

JsonNode *json_value_parse(const GString *text, size_t members, GError **err)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) error = NULL;
    JsonNode *root;

    if (!json_parser_load_from_data(parser, text->str, (gssize)text->len, &error)) {
        fail(err, "JSON parse error, %s", error->message);
        return NULL;
    }
    root = json_parser_steal_root(parser);
    /* Of several members with one key json-glib keeps the last: the tree has fewer than the
     * text. */
    if (count_members(root) != members) {
        json_node_unref(root);
        fail(err, "JSON parse error, duplicate key");
        return NULL;
    }
    return root;
}

/* ---- whole texts ---- */

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isspace(text[i]))
            return false;
    }
    return true;
}

/* Find the one value of a text; `j` is new. 0, and j has the value, or -1 and *err. */
static int find_value(struct json_stream *j, const char *text, size_t length, GError **err)
{
    size_t used, end;
    enum json_stream_result result = json_stream_feed(j, text, length, &used, err);

    /* A number or a word ends with what follows it: here, a space behind the text. */
    if (result == JSON_STREAM_MORE)
        result = json_stream_feed(j, " ", 1, &end, err);
    if (result == JSON_STREAM_ERROR)
        return -1;
    if (result == JSON_STREAM_MORE)
        return fail(err, "JSON parse error, %s",
                    is_blank(text, length) ? "there is no value" : "the value does not end");
    return is_blank(text + used, length - used)
               ? 0
               : fail(err, "JSON parse error, something follows the value");
}

int json_check(const char *text, size_t length, const struct json_limits *limits, GError **err)
{
    g_autoptr(json_stream) j = json_stream_new(limits);

    return find_value(j, text, length, err);
}

JsonNode *json_read(const char *text, size_t length, const struct json_limits *limits, GError **err)
{
    g_autoptr(json_stream) j = json_stream_new(limits);

    if (find_value(j, text, length, err) < 0)
        return NULL;
    return json_value_parse(json_stream_text(j), json_stream_members(j), err);
}
