/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON from elsewhere, checked before json-glib reads it: where one value ends and the next begins
 * in a stream of bytes, and whether it is JSON at all. Pure: no I/O. It builds no tree: read.h
 * does.
 *
 * json-glib (1.6) overflows the stack on deep nesting, accepts text behind the value, cuts strings
 * at \u0000, makes invalid UTF-8 of half a surrogate pair, and wraps integers that do not fit. All
 * of this is refused here first.
 */
#ifndef COMMON_JSON_STREAM_H
#define COMMON_JSON_STREAM_H

#include "common/json/limits.h"

#include <glib.h>
#include <stddef.h>

typedef struct json_stream json_stream; /* for g_autoptr */

enum json_stream_result {
    JSON_STREAM_MORE,  /* all input is used up, no value has ended yet */
    JSON_STREAM_VALUE, /* a value has ended: json_stream_text() */
    JSON_STREAM_ERROR, /* the input is no JSON value; the stream goes on after it */
};

/* The limits are copied. free accepts NULL. */
struct json_stream *json_stream_new(const struct json_limits *limits);
void json_stream_free(struct json_stream *j);

/* Take in bytes of data[0..length) up to the end of a value or to an error; *used says how many
 * were taken. On JSON_STREAM_ERROR *err says `JSON parse error, ...` or which limit was exceeded.
 * Call it again with the rest. The results do not depend on how the stream is cut into pieces. */
enum json_stream_result json_stream_feed(struct json_stream *j, const char *data, size_t length,
                                         size_t *used, GError **err);

/* Of the last JSON_STREAM_VALUE, until the next feed: strict JSON, valid UTF-8, on one line,
 * without spaces, '' strings turned into "" ones; integers outside of int64 have become floating
 * point. */
const GString *json_stream_text(const struct json_stream *j);
/* The members of all its objects together, duplicates counted. */
size_t json_stream_members(const struct json_stream *j);
/* The text of the member "id" of a top-level object with its numbers as they came, "" if none. */
const GString *json_stream_id(const struct json_stream *j);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_stream, json_stream_free)

#endif
