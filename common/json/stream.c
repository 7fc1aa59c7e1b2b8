/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QMP's input is not lines but a stream of JSON values, each of which may span lines or share one.
 * So somebody has to find where a value ends before a JSON parser can be asked, and has to enforce
 * limits while the bytes come in, not after. This is that somebody: a lexer, byte by byte, and a
 * push-down automaton over its tokens. What it passes on (`text`) is strict JSON whatever came in;
 * json-glib alone, which takes comments, trailing commas, `var x =` and huge integers, would do
 * things that nobody asked for.
 *
 * Three kinds of errors, told apart because they differ in where the stream goes on:
 *
 *  - grammar (a token in the wrong place, a bad escape, an unknown word): the first one is noted,
 *    nothing more is stored, tokens are counted on until the brackets balance; then it is told. The
 *    stream goes on behind the value. Brackets balance as QEMU has it: as many { as } and as many
 *    [ as ], or more closed than opened of either.
 *  - lexical (`stray`: a byte that begins or continues no token): told at once. A control character
 *    or a byte that UTF-8 never has is what clients send to reset the parser: the stream goes on
 *    right behind it. After any other, up to the end of the line or the next `{` there is nothing
 *    but rubble of a bad value, and it is dropped, so that one bad line makes one error.
 *  - a limit: told at once, and the rest of the line is dropped unseen: what is left of a value too
 *    large to hold cannot be told from the next one.
 *
 * Invariants: text->len <= 2 * limits.bytes (an escape added for each byte); the stack holds
 * `depth` kinds while `error` is NULL, and is not looked at once it is set.
 */
#include "common/json/stream.h"
#include "common/util/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Buffers that one large value has grown are given back before the next. */
#define KEEP_BYTES 65536u
/* Of a stray token, as much is shown. */
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

enum expect { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, SEPARATOR };

enum token { TOKEN_STRING, TOKEN_NUMBER, TOKEN_WORD, TOKEN_PUNCTUATION };

struct json_stream {
    struct json_limits limits;

    enum lexer lexer;
    char quote;          /* of the string we are in */
    GString *token;      /* the raw token as far as it came; cut at STRAY_BYTES for strings */
    size_t string_start; /* in text: behind the opening quote */
    char hex[5];
    unsigned hex_length;
    gunichar high; /* a high surrogate that waits for its low half, or 0 */

    char *error; /* the first grammar error in this value */
    size_t bytes, tokens, members;
    long braces, brackets;
    unsigned depth;
    char *stack; /* kinds of what is open: '{' or '[' */
    enum expect expect;
    bool key_is_id, in_id;
    bool done; /* text is a whole value: start over with the next byte */

    GString *text, *id;
};

/* ---- the life of a value ---- */

static void empty(GString **s)
{
    if ((*s)->allocated_len > KEEP_BYTES) {
        g_string_free(*s, TRUE);
        *s = g_string_new(NULL);
    }
    g_string_truncate(*s, 0);
}

static void reset(struct json_stream *j)
{
    j->lexer = LEX_START;
    j->high = 0;
    g_clear_pointer(&j->error, g_free);
    j->bytes = j->tokens = j->members = 0;
    j->braces = j->brackets = 0;
    j->depth = 0;
    j->expect = VALUE;
    j->key_is_id = j->in_id = j->done = false;
    empty(&j->token);
    empty(&j->text);
    empty(&j->id);
}

struct json_stream *json_stream_new(const struct json_limits *limits)
{
    struct json_stream *j = g_new0(struct json_stream, 1);

    j->limits = *limits;
    j->stack = g_malloc(limits->depth + 1);
    j->token = g_string_new(NULL);
    j->text = g_string_new(NULL);
    j->id = g_string_new(NULL);
    reset(j);
    return j;
}

void json_stream_free(struct json_stream *j)
{
    if (!j)
        return;
    g_free(j->error);
    g_free(j->stack);
    g_string_free(j->token, TRUE);
    g_string_free(j->text, TRUE);
    g_string_free(j->id, TRUE);
    g_free(j);
}

const GString *json_stream_text(const struct json_stream *j)
{
    return j->text;
}

size_t json_stream_members(const struct json_stream *j)
{
    return j->members;
}

const GString *json_stream_id(const struct json_stream *j)
{
    return j->id;
}

/* ---- storing ---- */

static void store(struct json_stream *j, const char *bytes, size_t length)
{
    if (j->error)
        return;
    g_string_append_len(j->text, bytes, (gssize)length);
    if (j->in_id)
        g_string_append_len(j->id, bytes, (gssize)length);
}

static void grammar_error(struct json_stream *j, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void grammar_error(struct json_stream *j, const char *format, ...)
{
    va_list args;

    if (j->error)
        return;
    va_start(args, format);
    j->error = g_strdup_vprintf(format, args);
    va_end(args);
}

/* JSON has no integers of its own size: what int64 cannot hold becomes floating point for
 * json-glib, which would wrap it, but an id goes back as it came. */
static void store_number(struct json_stream *j)
{
    const GString *t = j->token;
    bool is_integer = !strpbrk(t->str, ".eE");

    if (j->error)
        return;
    g_string_append_len(j->text, t->str, (gssize)t->len);
    if (is_integer && !g_ascii_string_to_signed(t->str, 10, G_MININT64, G_MAXINT64, NULL, NULL))
        g_string_append(j->text, ".0");
    if (j->in_id)
        g_string_append_len(j->id, t->str, (gssize)t->len);
}

/* ---- grammar ---- */

static bool is_known_word(const char *word)
{
    return strcmp(word, "true") == 0 || strcmp(word, "false") == 0 || strcmp(word, "null") == 0;
}

static void open_container(struct json_stream *j, char kind)
{
    j->stack[j->depth++] = kind;
    j->expect = kind == '{' ? KEY_OR_END : VALUE_OR_END;
    store(j, &kind, 1);
}

static void close_container(struct json_stream *j, char kind)
{
    j->depth--;
    j->expect = SEPARATOR;
    store(j, &kind, 1);
}

static void take_value(struct json_stream *j, enum token kind, char c)
{
    if (kind == TOKEN_PUNCTUATION) {
        if (c == '{' || c == '[')
            open_container(j, c);
        else if (c == ']' && j->expect == VALUE_OR_END)
            close_container(j, c);
        else
            grammar_error(j, "expecting value");
        return;
    }
    if (kind == TOKEN_WORD && !is_known_word(j->token->str))
        grammar_error(j, "invalid keyword '%.64s'", j->token->str);
    else if (kind == TOKEN_NUMBER)
        store_number(j);
    else if (kind == TOKEN_WORD)
        store(j, j->token->str, j->token->len);
    j->expect = SEPARATOR;
}

static void take_key(struct json_stream *j, enum token kind, char c)
{
    if (kind == TOKEN_STRING) {
        j->key_is_id = j->depth == 1 && strcmp(j->text->str + j->string_start, "id\"") == 0;
        j->expect = COLON;
    } else if (c == '}' && j->expect == KEY_OR_END) {
        close_container(j, c);
    } else if (kind == TOKEN_PUNCTUATION && c != '{' && c != '[') {
        grammar_error(j, "expecting value");
    } else if (kind == TOKEN_WORD && !is_known_word(j->token->str)) {
        grammar_error(j, "invalid keyword '%.64s'", j->token->str);
    } else {
        grammar_error(j, "key is not a string in object");
    }
}

static void take_colon(struct json_stream *j, enum token kind, char c)
{
    if (kind != TOKEN_PUNCTUATION || c != ':') {
        grammar_error(j, "missing : in object pair");
        return;
    }
    store(j, ":", 1);
    j->members++;
    j->expect = VALUE;
    if (j->key_is_id) {
        g_string_truncate(j->id, 0);
        j->in_id = true;
    }
}

static void take_separator(struct json_stream *j, enum token kind, char c)
{
    bool in_object = j->stack[j->depth - 1] == '{';

    if (j->depth == 1)
        j->in_id = false;
    if (kind == TOKEN_PUNCTUATION && c == ',') {
        store(j, ",", 1);
        j->expect = in_object ? KEY : VALUE;
    } else if (kind == TOKEN_PUNCTUATION && c == (in_object ? '}' : ']')) {
        close_container(j, c);
    } else {
        grammar_error(j, "expected separator in %s", in_object ? "dict" : "list");
    }
}

static enum json_stream_result finish(struct json_stream *j, GError **err)
{
    j->lexer = LEX_START;
    j->done = true;
    if (!j->error)
        return JSON_STREAM_VALUE;
    fail(err, "JSON parse error, %s", j->error);
    return JSON_STREAM_ERROR;
}

static enum json_stream_result overflow(struct json_stream *j, const char *what, GError **err)
{
    reset(j);
    j->lexer = LEX_OVERFLOW;
    fail(err, "JSON %s limit exceeded", what);
    return JSON_STREAM_ERROR;
}

static void count_brackets(struct json_stream *j, char c)
{
    j->braces += (c == '{') - (c == '}');
    j->brackets += (c == '[') - (c == ']');
}

/* A token has ended; c is it where it is punctuation. */
static enum json_stream_result take_token(struct json_stream *j, enum token kind, char c,
                                          GError **err)
{
    j->lexer = LEX_START;
    if (++j->tokens > j->limits.tokens)
        return overflow(j, "token count", err);
    if (kind == TOKEN_PUNCTUATION)
        count_brackets(j, c);
    if (j->braces + j->brackets > (long)j->limits.depth)
        return overflow(j, "nesting depth", err);

    if (!j->error) {
        switch (j->expect) {
        case VALUE:
        case VALUE_OR_END:
            take_value(j, kind, c);
            break;
        case KEY:
        case KEY_OR_END:
            take_key(j, kind, c);
            break;
        case COLON:
            take_colon(j, kind, c);
            break;
        case SEPARATOR:
            take_separator(j, kind, c);
            break;
        }
    }
    if (j->braces < 0 || j->brackets < 0 || (j->braces == 0 && j->brackets == 0))
        return finish(j, err);
    return JSON_STREAM_MORE;
}

/* ---- strings ---- */

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

/* A high surrogate was not followed by its low half. */
static void lone_surrogate(struct json_stream *j)
{
    if (j->high)
        grammar_error(j, "\\u%04x is not a valid Unicode character", j->high);
    j->high = 0;
}

static void begin_string(struct json_stream *j, char quote)
{
    j->lexer = LEX_STRING;
    j->quote = quote;
    g_string_assign(j->token, quote == '"' ? "\"" : "'");
    /* An error here (a string where none belongs) is found at its end, by take_token. */
    store(j, "\"", 1);
    j->string_start = j->text->len;
}

static enum json_stream_result end_string(struct json_stream *j, GError **err)
{
    lone_surrogate(j);
    if (!j->error &&
        !g_utf8_validate_len(j->text->str + j->string_start, j->text->len - j->string_start, NULL))
        grammar_error(j, "invalid UTF-8 sequence in string");
    store(j, "\"", 1);
    return take_token(j, TOKEN_STRING, 0, err);
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
        grammar_error(j, "invalid escape sequence in string");
}

/* All four digits behind a \u are there. */
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
        grammar_error(j, "\\u%s is not a valid Unicode character", j->hex);
    else
        store_character(j, c);
}

/* false: c is no digit, so the escape was bad, and c is the string's next character. */
static bool take_digit(struct json_stream *j, char c)
{
    if (!g_ascii_isxdigit(c)) {
        grammar_error(j, "\\u%s is not a valid Unicode character", j->hex);
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

/* Bytes that no JSON text has outside of white space, and UTF-8 nowhere. */
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

/* What follows a number's `state` on c: the next state, LEX_START at its end, LEX_RUBBLE if c
 * cannot be there. */
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
        return take_token(j, TOKEN_PUNCTUATION, c, err);
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

/* One byte. *again: c has ended a token and is still to be looked at. */
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
        return take_token(j, j->lexer == LEX_WORD ? TOKEN_WORD : TOKEN_NUMBER, 0, err);
    }
    j->lexer = next;
    g_string_append_c(j->token, c);
    return JSON_STREAM_MORE;
}

/* Is c outside of what counts against the limit of bytes? */
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
        if (!is_free(j, data[i]) && ++j->bytes > j->limits.bytes)
            result = overflow(j, "token size", err);
        else
            result = step(j, data[i], &again, err);
        i += !again;
    }
    *used = i;
    return result;
}
