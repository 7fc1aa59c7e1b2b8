/* SPDX-License-Identifier: BSD-3-Clause */
/* Members of JSON objects: read without trust in their types, and added to what is being built. */
#ifndef COMMON_JSON_VALUE_H
#define COMMON_JSON_VALUE_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/* A member of an object. One that is missing or of another type is NULL, 0 or false. What is
 * returned is borrowed from the object. */
const char *json_member_string(JsonObject *object, const char *name);
JsonObject *json_member_object(JsonObject *object, const char *name);
JsonArray *json_member_array(JsonObject *object, const char *name);
/* An integer that is not negative; anything else is 0. */
uint64_t json_member_size(JsonObject *object, const char *name);
bool json_member_bool(JsonObject *object, const char *name);

/* Add a member to the object that is being built. A NULL string is null. A size above INT64_MAX is
 * written as INT64_MAX. */
void json_add_string(JsonBuilder *b, const char *name, const char *value);
void json_add_size(JsonBuilder *b, const char *name, uint64_t value);
void json_add_bool(JsonBuilder *b, const char *name, bool value);

#endif
