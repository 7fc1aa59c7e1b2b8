/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QMP's input is not lines but a stream of JSON values, each of which may span lines or share one.
 * So the end of a value has to be found before a JSON parser can be asked, and limits have to be
 * enforced while the bytes come in, not after. This is the lexer, byte by byte; grammar.c is the
 * automaton over its tokens. The result is strict JSON whatever came in. json-glib alone would
 * accept comments, trailing commas, `var x =` and huge integers, which nobody means to send.
 *
 * There are three kinds of errors, because the stream goes on at three different places:
 *
 *  - grammar (a token in the wrong place, a bad escape, an unknown word): the first error is noted,
 *    nothing more is stored, tokens are counted on until the brackets balance; then the error is
 *    told. The stream goes on behind the value. Brackets balance as QEMU has it: as many { as } and
 *    as many [ as ], or more closed than opened of either.
 *  - lexical (`stray`: a byte that begins or continues no token): the error is told at once.
 *    Clients send a control character, or a byte that UTF-8 never has, to reset the parser: the
 *    stream goes on right behind it. After any other byte, the rest of the line up to the next `{`
 *    belongs to a bad value and is dropped, so that one bad line makes one error.
 *  - a limit: the error is told at once, and the rest of the line is dropped unseen, because the
 *    rest of a value too large to hold looks like the next value.
 */
#include "common/json/stream.h"
#include "common/json/grammar.h"
#include "common/util/error.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a stray token that its error shows. */
#define STRAY_BYTES 64u

enum lexer {
    LEX_START,
    LEX_STRING,
    LEX_ESCAPE,
    LEX_UNICODE, /* the four digits behind \u */
    LEX_WORD,
    LEX_MINUS,
    LEX_ZERO,
    LEX_INTEGER,
    LEX_POINT,
    LEX_FRACTION,
    LEX_E,
    LEX_E_SIGN,
    LEX_EXPONENT,
    LEX_RUBBLE,   /* after a stray: up to the end of the line or a { */
    LEX_OVERFLOW, /* after a limit: up to the end of the line */
};

struct json_stream {
    struct json_grammar grammar;
    size_t bytes, max_bytes; /* of this value */
    bool done;               /* a whole value has been told: start over with the next byte */

    enum lexer lexer;
    GString *token; /* the raw token as far as it came; of a string, its first STRAY_BYTES */
    char quote;     /* of the string that is being read */
    char hex[5];
    unsigned hex_length;
    gunichar high; /* a high surrogate that waits for its low half, or 0 */
};

/* ---- the life of a value ---- */

static void reset(struct json_stream *j)
{
    j->lexer = LEX_START;
    j->high = 0;
    j->bytes = 0;
    j->done = false;
    json_grammar_empty(&j->token);
    json_grammar_reset(&j->grammar);
}

struct json_stream *json_stream_new(const struct json_limits *limits)
{
    struct json_stream *j = g_new0(struct json_stream, 1);

    json_grammar_init(&j->grammar, limits);
    j->max_bytes = limits->bytes;
    j->token = g_string_new(NULL);
    reset(j);
    return j;
}

void json_stream_free(struct json_stream *j)
{
    if (!j)
        return;
    json_grammar_clear(&j->grammar);
    g_string_free(j->token, TRUE);
    g_free(j);
}

const GString *json_stream_text(const struct json_stream *j)
{
    return j->grammar.text;
}

size_t json_stream_members(const struct json_stream *j)
{
    return j->grammar.members;
}

const GString *json_stream_id(const struct json_stream *j)
{
    return j->grammar.id;
}

/* ---- tokens ---- */

static enum json_stream_result finish(struct json_stream *j, GError **err)
{
    j->done = true;
    if (!j->grammar.error)
        return JSON_STREAM_VALUE;
    fail(err, "JSON parse error, %s", j->grammar.error);
    return JSON_STREAM_ERROR;
}

static enum json_stream_result overflow(struct json_stream *j, const char *what, GError **err)
{
    reset(j);
    j->lexer = LEX_OVERFLOW;
    fail(err, "JSON %s limit exceeded", what);
    return JSON_STREAM_ERROR;
}

/* A token has ended; c is its character where it is punctuation. */
static enum json_stream_result end_token(struct json_stream *j, enum json_token kind, char c,
                                         GError **err)
{
    j->lexer = LEX_START;
    switch (json_grammar_take(&j->grammar, kind, j->token, c)) {
    case JSON_GOES_ON:
        break;
    case JSON_ENDS:
        return finish(j, err);
    case JSON_TOO_MANY_TOKENS:
        return overflow(j, "token count", err);
    case JSON_TOO_DEEP:
        return overflow(j, "nesting depth", err);
    }
    return JSON_STREAM_MORE;
}

/* ---- strings ---- */

static void store(struct json_stream *j, const char *bytes, size_t length)
{
    json_grammar_store(&j->grammar, bytes, length);
}

/* Store a character that an escape stood for, escaped again where JSON wants it. */
static void store_character(struct json_stream *j, gunichar c)
{
    char buffer[8];

    if (c == '"' || c == '\\') {
        buffer[0] = '\\';
        buffer[1] = (char)c;
        store(j, buffer, 2);
    } else if (c < 0x20) {
        store(j, buffer, (size_t)g_snprintf(buffer, sizeof buffer, "\\u%04x", c));
    } else {
        store(j, buffer, (size_t)g_unichar_to_utf8(c, buffer));
    }
}

/* Whatever comes now is not the low half that a high surrogate waits for. */
static void lone_surrogate(struct json_stream *j)
{
    if (j->high)
        json_grammar_error(&j->grammar, "\\u%04x is not a valid Unicode character", j->high);
    j->high = 0;
}

static void begin_string(struct json_stream *j, char quote)
{
    j->lexer = LEX_STRING;
    j->quote = quote;
    g_string_assign(j->token, quote == '"' ? "\"" : "'");
    json_grammar_begin_string(&j->grammar);
}

static enum json_stream_result end_string(struct json_stream *j, GError **err)
{
    lone_surrogate(j);
    json_grammar_end_string(&j->grammar);
    return end_token(j, TOKEN_STRING, 0, err);
}

static void take_escape(struct json_stream *j, char c)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *p = memchr(from, c, sizeof from - 1);

    j->lexer = LEX_STRING;
    if (c == 'u') {
        j->lexer = LEX_UNICODE;
        j->hex_length = 0;
        j->hex[0] = '\0';
        return;
    }
    lone_surrogate(j);
    if (p)
        store_character(j, (guchar)to[p - from]);
    else if (c == '"' || c == '\'' || c == '\\' || c == '/')
        store_character(j, (guchar)c);
    else
        json_grammar_error(&j->grammar, "invalid escape sequence in string");
}

/* All four digits behind a \u have come. */
static void end_unicode(struct json_stream *j)
{
    gunichar c = (gunichar)strtoul(j->hex, NULL, 16);
    bool is_low = c >= 0xdc00 && c < 0xe000;

    j->lexer = LEX_STRING;
    if (j->high && is_low) {
        c = 0x10000 + ((j->high - 0xd800) << 10) + (c - 0xdc00);
        j->high = 0;
        store_character(j, c);
        return;
    }
    lone_surrogate(j);
    if (c >= 0xd800 && c < 0xdc00)
        j->high = c;
    else if (c == 0 || is_low)
        json_grammar_error(&j->grammar, "\\u%s is not a valid Unicode character", j->hex);
    else
        store_character(j, c);
}

/* Returns false if c is no digit: the escape is bad, and c is the string's next character. */
static bool take_digit(struct json_stream *j, char c)
{
    if (!g_ascii_isxdigit(c)) {
        json_grammar_error(&j->grammar, "\\u%s is not a valid Unicode character", j->hex);
        j->lexer = LEX_STRING;
        return false;
    }
    j->hex[j->hex_length++] = c;
    j->hex[j->hex_length] = '\0';
    if (j->hex_length == 4)
        end_unicode(j);
    return true;
}

/* ---- the lexer ---- */

/* Clients reset the parser with these bytes. No JSON text has them but as white space. */
static bool is_reset(char c)
{
    guchar u = (guchar)c;

    return u < 0x20 || u >= 0xfe;
}

static enum json_stream_result stray(struct json_stream *j, char c, GError **err)
{
    g_autofree char *shown = NULL;

    g_string_append_c(j->token, c);
    shown = g_utf8_make_valid(j->token->str, (gssize)strlen(j->token->str));
    fail(err, "JSON parse error, stray '%s'", shown);
    reset(j);
    if (!is_reset(c))
        j->lexer = LEX_RUBBLE;
    return JSON_STREAM_ERROR;
}

/* The state of a number after c: LEX_START if the number has ended before c, LEX_RUBBLE if c cannot
 * be there. */
static enum lexer number_step(enum lexer state, char c)
{
    bool digit = g_ascii_isdigit(c), point = c == '.', e = c == 'e' || c == 'E';

    switch (state) {
    case LEX_MINUS:
        return c == '0' ? LEX_ZERO : digit ? LEX_INTEGER : LEX_RUBBLE;
    case LEX_ZERO:
        return point ? LEX_POINT : e ? LEX_E : digit ? LEX_RUBBLE : LEX_START;
    case LEX_INTEGER:
        return point ? LEX_POINT : e ? LEX_E : digit ? LEX_INTEGER : LEX_START;
    case LEX_POINT:
        return digit ? LEX_FRACTION : LEX_RUBBLE;
    case LEX_FRACTION:
        return e ? LEX_E : digit ? LEX_FRACTION : LEX_START;
    case LEX_E:
        return c == '+' || c == '-' ? LEX_E_SIGN : digit ? LEX_EXPONENT : LEX_RUBBLE;
    case LEX_E_SIGN:
        return digit ? LEX_EXPONENT : LEX_RUBBLE;
    default: /* LEX_EXPONENT */
        return digit ? LEX_EXPONENT : LEX_START;
    }
}

static enum json_stream_result lex_start(struct json_stream *j, char c, GError **err)
{
    g_string_truncate(j->token, 0);
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        return JSON_STREAM_MORE;
    if (c != '\0' && strchr("{}[]:,", c))
        return end_token(j, TOKEN_PUNCTUATION, c, err);
    if (c == '"' || c == '\'') {
        begin_string(j, c);
        return JSON_STREAM_MORE;
    }
    if (g_ascii_islower(c))
        j->lexer = LEX_WORD;
    else if (c == '-')
        j->lexer = LEX_MINUS;
    else if (g_ascii_isdigit(c))
        j->lexer = c == '0' ? LEX_ZERO : LEX_INTEGER;
    else
        return stray(j, c, err);
    g_string_append_c(j->token, c);
    return JSON_STREAM_MORE;
}

static enum json_stream_result lex_string(struct json_stream *j, char c, GError **err)
{
    if (is_reset(c))
        return stray(j, c, err);
    if (j->token->len < STRAY_BYTES)
        g_string_append_c(j->token, c);
    if (j->lexer == LEX_UNICODE && take_digit(j, c))
        return JSON_STREAM_MORE;
    if (j->lexer == LEX_ESCAPE) {
        take_escape(j, c);
    } else if (c == '\\') {
        j->lexer = LEX_ESCAPE;
    } else if (c == j->quote) {
        return end_string(j, err);
    } else {
        lone_surrogate(j);
        store(j, c == '"' ? "\\\"" : &c, c == '"' ? 2 : 1);
    }
    return JSON_STREAM_MORE;
}

/* Take one byte. *again is set if c has ended a token and has to be taken once more. */
static enum json_stream_result step(struct json_stream *j, char c, bool *again, GError **err)
{
    enum lexer next;

    switch (j->lexer) {
    case LEX_START:
        return lex_start(j, c, err);
    case LEX_STRING:
    case LEX_ESCAPE:
    case LEX_UNICODE:
        return lex_string(j, c, err);
    case LEX_OVERFLOW:
    case LEX_RUBBLE:
        *again = c == '{' && j->lexer == LEX_RUBBLE;
        if (*again || (is_reset(c) && c != '\t' && c != '\r'))
            j->lexer = LEX_START;
        return JSON_STREAM_MORE;
    case LEX_WORD:
        next = g_ascii_islower(c) ? LEX_WORD : LEX_START;
        break;
    default:
        next = number_step(j->lexer, c);
        break;
    }
    if (next == LEX_RUBBLE)
        return stray(j, c, err);
    if (next == LEX_START) {
        *again = true;
        return end_token(j, j->lexer == LEX_WORD ? TOKEN_WORD : TOKEN_NUMBER, 0, err);
    }
    j->lexer = next;
    g_string_append_c(j->token, c);
    return JSON_STREAM_MORE;
}

/* Does c cost nothing against the limit of bytes? */
static bool is_free(const struct json_stream *j, char c)
{
    return j->lexer == LEX_RUBBLE || j->lexer == LEX_OVERFLOW ||
           (j->lexer == LEX_START && g_ascii_isspace(c));
}

enum json_stream_result json_stream_feed(struct json_stream *j, const char *data, size_t length,
                                         size_t *used, GError **err)
{
    enum json_stream_result result = JSON_STREAM_MORE;
    size_t i = 0;

    while (i < length && result == JSON_STREAM_MORE) {
        bool again = false;

        if (j->done)
            reset(j);
        if (!is_free(j, data[i]) && ++j->bytes > j->max_bytes)
            result = overflow(j, "token size", err);
        else
            result = step(j, data[i], &again, err);
        i += !again;
    }
    *used = i;
    return result;
}
