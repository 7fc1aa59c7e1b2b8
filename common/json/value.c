/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/json/value.h"
#include "common/util/error.h"
#include "common/json/write.h"

#include <stdbool.h>

/* ---- in ---- */

/* How many members the objects in `node` have together. Recursion is as deep as the text was
 * nested, which the stream has limited. */
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
    /* json-glib keeps the last of several: then there are less in the tree than in the text. */
    if (count_members(root) != members) {
        json_node_unref(root);
        fail(err, "JSON parse error, duplicate key");
        return NULL;
    }
    return root;
}

/* ---- out ---- */

static void append_character(GString *out, gunichar c)
{
    if (c >= 0x20 && c < 0x7f)
        g_string_append_c(out, (char)c);
    else if (c < 0x10000)
        g_string_append_printf(out, "\\u%04x", c);
    else
        g_string_append_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                               0xdc00 + ((c - 0x10000) & 0x3ff));
}

void json_value_append_text(GString *out, const char *text, size_t length)
{
    const char *end = text + length;
    bool in_string = false;

    for (const char *p = text; p < end;) {
        gunichar c = g_utf8_get_char_validated(p, end - p);

        if (c == (gunichar)-1 || c == (gunichar)-2) {
            append_character(out, 0xfffd);
            p++;
            continue;
        }
        append_character(out, c);
        p = g_utf8_next_char(p);
        if (c == '"')
            in_string = !in_string;
        else if (c == '\\' && p < end)
            g_string_append_c(out, *p++); /* an escape: what follows ends no string */
        else if (!in_string && (c == ':' || c == ','))
            g_string_append_c(out, ' ');
    }
}

void json_value_append(GString *out, JsonNode *node)
{
    g_autofree char *text = json_write(node, false);

    json_value_append_text(out, text, strlen(text));
}

void json_value_append_string(GString *out, const char *string)
{
    JsonNode *node = json_node_init_string(json_node_alloc(), string);

    json_value_append(out, node);
    json_node_unref(node);
}
