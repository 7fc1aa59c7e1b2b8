/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON from elsewhere: checked before json-glib reads it, and read without trust.
 *
 * json-glib (1.6) overflows the stack on deep nesting, takes text after the value, cuts strings at
 * \u0000, makes what is no UTF-8 of half a surrogate pair, and turns integers that do not fit into
 * others. json_check() refuses all of this first.
 */
#ifndef CLIENT_QMP_JSON_H
#define CLIENT_QMP_JSON_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Deepest nesting that is read; QEMU's own limit. */
#define JSON_DEPTH_MAX 1024

/* Is `text` the outline of exactly one JSON value: brackets that match, strings that end, numbers
 * that fit? Names and separators are left to the parser. Strings may also be in single quotes, as
 * QMP has them. 0, or -1 and *err. */
int json_check(const char *text, gsize length, GError **err);

/* One JSON value out of `text` (json_check()ed), or NULL and *err. */
JsonNode *json_read(const char *text, gsize length, GError **err);

/* Members of an object; what is missing or of another type is NULL, 0 or false. */
const char *json_member_string(JsonObject *object, const char *name);
JsonObject *json_member_object(JsonObject *object, const char *name);
JsonArray *json_member_array(JsonObject *object, const char *name);
/* Of a number that is not negative; anything else is 0. */
uint64_t json_member_size(JsonObject *object, const char *name);
bool json_member_bool(JsonObject *object, const char *name);

/* Add a member to the object that is being built. A NULL string is null. */
void json_add_string(JsonBuilder *b, const char *name, const char *value);
void json_add_size(JsonBuilder *b, const char *name, uint64_t value);
void json_add_bool(JsonBuilder *b, const char *name, bool value);

#endif
