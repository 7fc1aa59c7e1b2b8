/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON text as json-glib's trees. Pure: no I/O. Any thread. */
#ifndef COMMON_JSON_READ_H
#define COMMON_JSON_READ_H

#include "common/json/limits.h"

#include <json-glib/json-glib.h>
#include <stddef.h>

/* Is text[0..length) exactly one JSON value, with nothing but white space around it? As in a
 * json_stream, strings may be in single quotes. 0, or -1 and *err. */
int json_check(const char *text, size_t length, const struct json_limits *limits, GError **err);

/* The same, and the value: immutable, the caller unrefs it. NULL and *err; also where one object
 * has a key twice. */
JsonNode *json_read(const char *text, size_t length, const struct json_limits *limits,
                    GError **err);

/* The tree of a value that a json_stream has found: its json_stream_text and json_stream_members.
 * NULL and `JSON parse error, duplicate key` if a key came twice in one object. */
JsonNode *json_value_parse(const GString *text, size_t members, GError **err);

#endif
