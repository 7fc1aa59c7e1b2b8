/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/qmp/json.h"
#include "client/cli/error.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Where json_check() is in the text, and the brackets that are open there. */
struct scan {
    const char *at, *end;
    unsigned depth;
    char open[JSON_DEPTH_MAX]; /* '[' or '{' */
};

static int bad(GError **err, const char *what)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "bad JSON: %s", what);
}

/* The 16 bits of the four hex digits at `at`, or -1. */
static int hex4(const char *at, const char *end)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        if (at + i >= end || !g_ascii_isxdigit(at[i]))
            return -1;
        value = value << 4 | g_ascii_xdigit_value(at[i]);
    }
    return value;
}

/* s->at is behind "\u". A NUL would cut the string, half a surrogate pair is no character. */
static int scan_unicode(struct scan *s, GError **err)
{
    int unit = hex4(s->at, s->end);

    if (unit <= 0)
        return bad(err, unit == 0 ? "a NUL in a string" : "a wrong \\u in a string");
    s->at += 4;
    if (unit < 0xd800 || unit > 0xdfff)
        return 0;
    if (unit < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u' &&
        (hex4(s->at + 2, s->end) & ~0x3ff) == 0xdc00) {
        s->at += 6;
        return 0;
    }
    return bad(err, "half a surrogate pair in a string");
}

/* s->at is behind the quote that opened the string; leaves it behind the one that closes it. */
static int scan_string(struct scan *s, char quote, GError **err)
{
    while (s->at < s->end) {
        char c = *s->at++;

        if (c == quote)
            return 0;
        if ((unsigned char)c < 0x20)
            return bad(err, "a control character in a string");
        if (c != '\\')
            continue;
        if (s->at == s->end)
            break;
        if ((unsigned char)*s->at < 0x20)
            return bad(err, "a control character in a string");
        /* The parser reads C's octal escapes, too, which make what is no UTF-8, and NUL. */
        if (!strchr("\"'\\/bfnrtu", *s->at))
            return bad(err, "a wrong escape in a string");
        if (*s->at++ == 'u' && scan_unicode(s, err) < 0)
            return -1;
    }
    return bad(err, "a string that does not end");
}

/* A word that is neither bracket, string nor separator: numbers are looked at, true, false and null
 * are left to the parser. */
static int scan_word(struct scan *s, GError **err)
{
    const char *start = s->at;
    char word[64];
    size_t length;

    while (s->at < s->end && !strchr(" \t\r\n,:[]{}\"'", *s->at))
        s->at++;
    length = (size_t)(s->at - start);
    if (length >= sizeof word)
        return bad(err, "an overlong number or word");
    memcpy(word, start, length);
    word[length] = '\0';
    if (!g_ascii_isdigit(word[0]) && word[0] != '-')
        return 0;
    if (strpbrk(word, ".eE"))
        return isfinite(g_ascii_strtod(word, NULL)) ? 0 : bad(err, "a number that is too large");
    errno = 0;
    g_ascii_strtoll(word, NULL, 10);
    return errno == 0 ? 0 : bad(err, "an integer that is too large");
}

static int scan_close(struct scan *s, char bracket, GError **err)
{
    char opened = bracket == ']' ? '[' : '{';

    if (s->depth == 0 || s->open[s->depth - 1] != opened)
        return bad(err, "brackets that do not match");
    s->depth--;
    return 0;
}

/* One bracket, string, word or separator. */
static int scan_token(struct scan *s, GError **err)
{
    char c = *s->at;

    switch (c) {
    case '[':
    case '{':
        if (s->depth == JSON_DEPTH_MAX)
            return bad(err, "nested too deep");
        s->open[s->depth++] = c;
        s->at++;
        return 0;
    case ']':
    case '}':
        s->at++;
        return scan_close(s, c, err);
    case '"':
    case '\'':
        s->at++;
        return scan_string(s, c, err);
    case ',':
    case ':':
        s->at++;
        return 0;
    default:
        return scan_word(s, err);
    }
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at))
        s->at++;
}

int json_check(const char *text, gsize length, GError **err)
{
    struct scan s = {.at = text, .end = text + length};

    /* This also finds NUL bytes, so that strchr() above never meets one. */
    if (!g_utf8_validate(text, (gssize)length, NULL))
        return bad(err, "not UTF-8");
    skip_space(&s);
    if (s.at == s.end)
        return bad(err, "no value");
    do {
        if (scan_token(&s, err) < 0)
            return -1;
        skip_space(&s);
    } while (s.depth > 0 && s.at < s.end);
    if (s.depth > 0)
        return bad(err, "it ends too soon");
    return s.at == s.end ? 0 : bad(err, "something follows the value");
}

JsonNode *json_read(const char *text, gsize length, GError **err)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) error = NULL;
    JsonNode *root;

    if (json_check(text, length, err) < 0)
        return NULL;
    if (!json_parser_load_from_data(parser, text, (gssize)length, &error)) {
        bad(err, error->message);
        return NULL;
    }
    root = json_parser_steal_root(parser);
    if (!root)
        bad(err, "no value");
    return root;
}

/* The member if it is a plain value of this type, else NULL. */
static JsonNode *member_of_type(JsonObject *object, const char *name, GType type)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node
                                                                                         : NULL;
}

const char *json_member_string(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_type(object, name, G_TYPE_STRING);

    return node ? json_node_get_string(node) : NULL;
}

JsonObject *json_member_object(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *json_member_array(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

uint64_t json_member_size(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_type(object, name, G_TYPE_INT64);
    gint64 value = node ? json_node_get_int(node) : 0;

    return value > 0 ? (uint64_t)value : 0;
}

bool json_member_bool(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_type(object, name, G_TYPE_BOOLEAN);

    return node && json_node_get_boolean(node);
}

void json_add_string(JsonBuilder *b, const char *name, const char *value)
{
    json_builder_set_member_name(b, name);
    if (value)
        json_builder_add_string_value(b, value);
    else
        json_builder_add_null_value(b);
}

void json_add_size(JsonBuilder *b, const char *name, uint64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, (gint64)MIN(value, (uint64_t)G_MAXINT64));
}

void json_add_bool(JsonBuilder *b, const char *name, bool value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}
