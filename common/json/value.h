/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between JSON text and json-glib's trees, as QMP wants it: no key twice on the way in, ASCII on
 * the way out.
 */
#ifndef COMMON_JSON_VALUE_H
#define COMMON_JSON_VALUE_H

#include <json-glib/json-glib.h>

/* The tree of one strict JSON text (json_stream_text), whose objects have `members` members
 * together. NULL and `JSON parse error, duplicate key` if a key came twice in one object. */
JsonNode *json_value_parse(const GString *text, size_t members, GError **err);

/* Append JSON text in QMP's manner: ASCII alone, on one line, `: ` and `, ` between. Bytes that are
 * not UTF-8 (a file name in an error text) become U+FFFD. */
void json_value_append_text(GString *out, const char *text, size_t length);
void json_value_append(GString *out, JsonNode *node);
/* A string, with its quotes. */
void json_value_append_string(GString *out, const char *string);

#endif
