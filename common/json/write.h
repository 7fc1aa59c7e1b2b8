/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * json-glib's trees as JSON text. Pure: no I/O. Any thread.
 *
 * json-glib's own writer puts ".0" behind every floating-point number without a point, so 1e41
 * becomes 1e+41.0, one that is too large for a double becomes inf, and U+001F in a string stays as
 * it is. None of these is JSON (RFC 8259, sections 6 and 7).
 */
#ifndef COMMON_JSON_WRITE_H
#define COMMON_JSON_WRITE_H

#include <json-glib/json-glib.h>
#include <stdbool.h>

/* As json_to_string, strict. Infinity, which is what reading 1e400 gives, is written as 1e999 and
 * read as the same again. The caller g_frees it. */
char *json_write(JsonNode *node, bool pretty);

/* Append JSON text in QMP's manner: ASCII alone, on one line, `: ` and `, ` between. Bytes that are
 * not UTF-8 (a file name in an error text) become U+FFFD. `text` is JSON already. */
void json_value_append_text(GString *out, const char *text, size_t length);
void json_value_append(GString *out, JsonNode *node);
/* A string, with its quotes. */
void json_value_append_string(GString *out, const char *string);

#endif
