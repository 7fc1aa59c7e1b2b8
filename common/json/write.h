/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A tree of json-glib's as JSON text. json-glib's own writer puts ".0" behind every floating-point
 * number without a point, so 1e41 becomes 1e+41.0, one that is too large for a double becomes inf,
 * and U+001F in a string stays as it is; none of these is JSON (RFC 8259, sections 6 and 7).
 */
#ifndef COMMON_JSON_WRITE_H
#define COMMON_JSON_WRITE_H

#include <json-glib/json-glib.h>
#include <stdbool.h>

/* As json_to_string, strict; infinity, which is what reading 1e400 gives, is written as 1e999 and
 * read as the same again. The caller g_frees it. Any thread. */
char *json_write(JsonNode *node, bool pretty);

#endif
