/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where one JSON value ends and the next begins in a QMP client's stream of bytes, and whether it
 * is JSON at all. Pure: no I/O. It builds no tree: that is json-glib's part (json-value.h), to
 * which it hands strict JSON text.
 */
#ifndef COMMON_JSON_STREAM_H
#define COMMON_JSON_STREAM_H

#include <glib.h>
#include <stddef.h>

struct json_stream;

/* Limits of one value; what is above is refused with QEMU's words. */
struct json_limits {
    size_t bytes;   /* without white space between tokens */
    size_t tokens;  /* strings, numbers, words and each of {}[]:, */
    unsigned depth; /* objects and arrays inside each other */
};

enum json_stream_result {
    JSON_STREAM_MORE,  /* all input is used up, no value has ended yet */
    JSON_STREAM_VALUE, /* a value has ended: json_stream_text() */
    JSON_STREAM_ERROR, /* what came is no JSON value; the stream goes on after it */
};

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
/* How many members its objects have together, duplicates counted. */
size_t json_stream_members(const struct json_stream *j);
/* The text of the member "id" of a top-level object with its numbers as they came, "" if none. */
const GString *json_stream_id(const struct json_stream *j);

#endif
