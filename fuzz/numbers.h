/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which trees json-glib can write. It puts ".0" behind a floating-point number without a point,
 * also behind an exponent (1e41 becomes 1e+41.0), and writes 1e400 as inf: neither is JSON
 * (README.md, "Found"). The round trips leave such trees out.
 */
#ifndef FUZZ_NUMBERS_H
#define FUZZ_NUMBERS_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <string.h>

static inline bool is_written_as_json(JsonNode *node)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    bool good = true;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        g_autoptr(GList) values = json_object_get_values(json_node_get_object(node));
        for (GList *i = values; i != NULL; i = i->next)
            good &= is_written_as_json(i->data);
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);
        for (guint i = 0; i < json_array_get_length(array); i++)
            good &= is_written_as_json(json_array_get_element(array, i));
    } else if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_DOUBLE) {
        g_ascii_dtostr(text, sizeof text, json_node_get_double(node));
        good = strpbrk(text, "en") == NULL; /* an exponent, inf, nan */
    }
    return good;
}

#endif
