/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/json/grammar.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* A buffer that has grown beyond this is given back before the next value. */
#define KEEP_BYTES 65536u

/* ---- the life of a value ---- */

void json_grammar_empty(GString **s)
{
    if ((*s)->allocated_len > KEEP_BYTES) {
        g_string_free(*s, TRUE);
        *s = g_string_new(NULL);
    }
    g_string_truncate(*s, 0);
}

void json_grammar_init(struct json_grammar *g, const struct json_limits *limits)
{
    *g = (struct json_grammar){
        .limits = *limits,
        .stack = g_malloc(limits->depth + 1),
        .text = g_string_new(NULL),
        .id = g_string_new(NULL),
    };
}

void json_grammar_clear(struct json_grammar *g)
{
    g_free(g->error);
    g_free(g->stack);
    g_string_free(g->text, TRUE);
    g_string_free(g->id, TRUE);
}

void json_grammar_reset(struct json_grammar *g)
{
    g_clear_pointer(&g->error, g_free);
    g->tokens = g->members = 0;
    g->braces = g->brackets = 0;
    g->depth = 0;
    g->expect = EXPECT_VALUE;
    g->key_is_id = g->in_id = false;
    json_grammar_empty(&g->text);
    json_grammar_empty(&g->id);
}

/* ---- storing ---- */

void json_grammar_error(struct json_grammar *g, const char *format, ...)
{
    va_list args;

    if (g->error)
        return;
    va_start(args, format);
    g->error = g_strdup_vprintf(format, args);
    va_end(args);
}

void json_grammar_store(struct json_grammar *g, const char *bytes, size_t length)
{
    if (g->error)
        return;
    g_string_append_len(g->text, bytes, (gssize)length);
    if (g->in_id)
        g_string_append_len(g->id, bytes, (gssize)length);
}

/* Can int64, or a double, hold it? */
static bool fits(const char *number, bool is_integer)
{
    return is_integer ? g_ascii_string_to_signed(number, 10, G_MININT64, G_MAXINT64, NULL, NULL)
                      : isfinite(g_ascii_strtod(number, NULL));
}

/* JSON sets no limit to integers. json-glib would wrap one that int64 cannot hold, so it becomes
 * floating point in the text; the id keeps it as it came. */
static void store_number(struct json_grammar *g, const GString *raw)
{
    bool is_integer = !strpbrk(raw->str, ".eE");
    bool good = (!is_integer && !g->limits.exact) || fits(raw->str, is_integer);

    if (!good && g->limits.exact)
        json_grammar_error(g, "number '%.64s' is too large", raw->str);
    if (g->error)
        return;
    g_string_append_len(g->text, raw->str, (gssize)raw->len);
    if (!good)
        g_string_append(g->text, ".0");
    if (g->in_id)
        g_string_append_len(g->id, raw->str, (gssize)raw->len);
}

/* A string where none may stand is found at its end, like any other token. */
void json_grammar_begin_string(struct json_grammar *g)
{
    json_grammar_store(g, "\"", 1);
    g->string_start = g->text->len;
}

void json_grammar_end_string(struct json_grammar *g)
{
    if (!g->error &&
        !g_utf8_validate_len(g->text->str + g->string_start, g->text->len - g->string_start, NULL))
        json_grammar_error(g, "invalid UTF-8 sequence in string");
    json_grammar_store(g, "\"", 1);
}

/* ---- which token may come ---- */

static bool is_known_word(const char *word)
{
    return strcmp(word, "true") == 0 || strcmp(word, "false") == 0 || strcmp(word, "null") == 0;
}

static void open_container(struct json_grammar *g, char kind)
{
    g->stack[g->depth++] = kind;
    g->expect = kind == '{' ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    json_grammar_store(g, &kind, 1);
}

static void close_container(struct json_grammar *g, char kind)
{
    g->depth--;
    g->expect = EXPECT_SEPARATOR;
    json_grammar_store(g, &kind, 1);
}

static void take_value(struct json_grammar *g, enum json_token kind, const GString *raw, char c)
{
    if (kind == TOKEN_PUNCTUATION) {
        if (c == '{' || c == '[')
            open_container(g, c);
        else if (c == ']' && g->expect == EXPECT_VALUE_OR_END)
            close_container(g, c);
        else
            json_grammar_error(g, "expecting value");
        return;
    }
    if (kind == TOKEN_WORD && !is_known_word(raw->str))
        json_grammar_error(g, "invalid keyword '%.64s'", raw->str);
    else if (kind == TOKEN_NUMBER)
        store_number(g, raw);
    else if (kind == TOKEN_WORD)
        json_grammar_store(g, raw->str, raw->len);
    g->expect = EXPECT_SEPARATOR;
}

static void take_key(struct json_grammar *g, enum json_token kind, const GString *raw, char c)
{
    if (kind == TOKEN_STRING) {
        g->key_is_id = g->depth == 1 && strcmp(g->text->str + g->string_start, "id\"") == 0;
        g->expect = EXPECT_COLON;
    } else if (c == '}' && g->expect == EXPECT_KEY_OR_END) {
        close_container(g, c);
    } else if (kind == TOKEN_PUNCTUATION && c != '{' && c != '[') {
        json_grammar_error(g, "expecting value");
    } else if (kind == TOKEN_WORD && !is_known_word(raw->str)) {
        json_grammar_error(g, "invalid keyword '%.64s'", raw->str);
    } else {
        json_grammar_error(g, "key is not a string in object");
    }
}

static void take_colon(struct json_grammar *g, enum json_token kind, char c)
{
    if (kind != TOKEN_PUNCTUATION || c != ':') {
        json_grammar_error(g, "missing : in object pair");
        return;
    }
    json_grammar_store(g, ":", 1);
    g->members++;
    g->expect = EXPECT_VALUE;
    if (g->key_is_id) {
        g_string_truncate(g->id, 0);
        g->in_id = true;
    }
}

static void take_separator(struct json_grammar *g, enum json_token kind, char c)
{
    bool in_object = g->stack[g->depth - 1] == '{';

    if (g->depth == 1)
        g->in_id = false;
    if (kind == TOKEN_PUNCTUATION && c == ',') {
        json_grammar_store(g, ",", 1);
        g->expect = in_object ? EXPECT_KEY : EXPECT_VALUE;
    } else if (kind == TOKEN_PUNCTUATION && c == (in_object ? '}' : ']')) {
        close_container(g, c);
    } else {
        json_grammar_error(g, "expected separator in %s", in_object ? "dict" : "list");
    }
}

static void take_expected(struct json_grammar *g, enum json_token kind, const GString *raw, char c)
{
    switch (g->expect) {
    case EXPECT_VALUE:
    case EXPECT_VALUE_OR_END:
        take_value(g, kind, raw, c);
        break;
    case EXPECT_KEY:
    case EXPECT_KEY_OR_END:
        take_key(g, kind, raw, c);
        break;
    case EXPECT_COLON:
        take_colon(g, kind, c);
        break;
    case EXPECT_SEPARATOR:
        take_separator(g, kind, c);
        break;
    }
}

static void count_brackets(struct json_grammar *g, char c)
{
    g->braces += (c == '{') - (c == '}');
    g->brackets += (c == '[') - (c == ']');
}

enum json_progress json_grammar_take(struct json_grammar *g, enum json_token kind,
                                     const GString *raw, char c)
{
    if (++g->tokens > g->limits.tokens)
        return JSON_TOO_MANY_TOKENS;
    if (kind == TOKEN_PUNCTUATION)
        count_brackets(g, c);
    if (g->braces + g->brackets > (long)g->limits.depth)
        return JSON_TOO_DEEP;
    if (!g->error)
        take_expected(g, kind, raw, c);
    if (g->braces < 0 || g->brackets < 0 || (g->braces == 0 && g->brackets == 0))
        return JSON_ENDS;
    return JSON_GOES_ON;
}
