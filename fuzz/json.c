/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QMP's stream of JSON: json_stream_feed, json_value_parse, json_value_append.
 *
 * Input: a byte that chooses the limits, a byte that chooses the cuts, then the stream.
 */
#include "common/json/read.h"
#include "common/json/stream.h"
#include "common/json/write.h"
#include "fuzz/fuzz.h"

#include <string.h>

const char fuzz_name[] = "json";

static const struct json_limits limits[] = {
    {.bytes = 1 << 20, .tokens = 10000, .depth = 1024},
    {.bytes = 64, .tokens = 10000, .depth = 1024},
    {.bytes = 1 << 20, .tokens = 8, .depth = 1024},
    {.bytes = 1 << 20, .tokens = 10000, .depth = 3},
    {.bytes = 1 << 20, .tokens = 10000, .depth = 1024, .exact = true},
};

/* The value of a text that has exactly one, with nothing behind it. */
static JsonNode *parse_once(const char *text, size_t length)
{
    struct json_stream *j = json_stream_new(&limits[0]);
    size_t used, at = 0;
    JsonNode *node = NULL;

    while (!node && at < length) {
        enum json_stream_result r = json_stream_feed(j, text + at, length - at, &used, NULL);
        at += used;
        if (r == JSON_STREAM_VALUE)
            node = json_value_parse(json_stream_text(j), json_stream_members(j), NULL);
        else
            CHECK(r == JSON_STREAM_MORE);
    }
    CHECK(at + 1 >= length); /* the line feed behind it is not needed */
    json_stream_free(j);
    return node;
}

/* A value's text is ASCII on one line. If it is parsed and written again, it is the same. */
static void check_round_trip(JsonNode *node)
{
    g_autoptr(GString) text = g_string_new(NULL), again = g_string_new(NULL);

    json_value_append(text, node);
    for (size_t i = 0; i < text->len; i++)
        CHECK(text->str[i] >= 0x20 && text->str[i] < 0x7f);
    /* A number or a word alone only ends at the byte behind it. */
    g_string_append_c(text, '\n');
    g_autoptr(JsonNode) parsed = parse_once(text->str, text->len);
    CHECK(parsed);
    json_value_append(again, parsed);
    g_string_append_c(again, '\n');
    CHECK(g_string_equal(text, again));
}

static void check_value(struct json_stream *j, const struct json_limits *limit)
{
    const GString *text = json_stream_text(j);
    g_autoptr(GError) err = NULL;

    CHECK(text->len > 0 && text->len <= 2 * limit->bytes);
    CHECK(g_utf8_validate_len(text->str, text->len, NULL));
    CHECK(memchr(text->str, '\n', text->len) == NULL && memchr(text->str, 0, text->len) == NULL);
    CHECK(g_utf8_validate_len(json_stream_id(j)->str, json_stream_id(j)->len, NULL));
    /* The text is strict JSON. So the only error that can be left is a key that is there twice. */
    g_autoptr(JsonNode) node = json_value_parse(text, json_stream_members(j), &err);
    CHECK((node == NULL) == (err != NULL));
    if (!node)
        CHECK(strcmp(err->message, "JSON parse error, duplicate key") == 0);
    else
        check_round_trip(node);
}

/* All results, in pieces of at most `piece` bytes. */
static char *results_of(const struct json_limits *limit, const char *data, size_t length,
                        size_t piece, bool check)
{
    struct json_stream *j = json_stream_new(limit);
    GString *results = g_string_new(NULL);

    while (length > 0) {
        g_autoptr(GError) err = NULL;
        size_t n = MIN(length, piece), used = 0;
        enum json_stream_result r = json_stream_feed(j, data, n, &used, &err);

        CHECK(used <= n && (used > 0 || r != JSON_STREAM_MORE));
        CHECK(r != JSON_STREAM_MORE || used == n);
        CHECK((r == JSON_STREAM_ERROR) == (err != NULL));
        if (r == JSON_STREAM_VALUE) {
            if (check)
                check_value(j, limit);
            g_string_append_printf(results, "%s %zu %s|", json_stream_text(j)->str,
                                   json_stream_members(j), json_stream_id(j)->str);
        } else if (r == JSON_STREAM_ERROR) {
            g_string_append_printf(results, "<%s>|", err->message);
        }
        data += used;
        length -= used;
    }
    json_stream_free(j);
    return g_string_free(results, FALSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const struct json_limits *limit = &limits[data[0] % G_N_ELEMENTS(limits)];
    size_t piece = 1 + data[1] % 16;
    g_autofree char *copy = g_memdup2(data + 2, size - 2);
    g_autofree char *whole = results_of(limit, copy, size - 2, SIZE_MAX, true);
    g_autofree char *pieces = results_of(limit, copy, size - 2, piece, false);

    CHECK(strcmp(whole, pieces) == 0);
    return 0;
}
