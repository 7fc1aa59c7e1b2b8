/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON's grammar over tokens: a push-down automaton that knows which token may come next, and
 * builds the strict text of the value from them. Pure: no I/O. The lexer that makes tokens of bytes
 * is stream.c, the only user of this file.
 */
#ifndef COMMON_JSON_GRAMMAR_H
#define COMMON_JSON_GRAMMAR_H

#include "common/json/limits.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum json_expect {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* behind [ */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* behind { */
    EXPECT_COLON,
    EXPECT_SEPARATOR,
};

enum json_token { TOKEN_STRING, TOKEN_NUMBER, TOKEN_WORD, TOKEN_PUNCTUATION };

/* What a token has led to. */
enum json_progress {
    JSON_GOES_ON,         /* the value has not ended */
    JSON_ENDS,            /* the value has ended; it is bad if `error` is set */
    JSON_TOO_MANY_TOKENS, /* a limit is exceeded: start over */
    JSON_TOO_DEEP,
};

/*
 * One value as far as it has come.
 *
 * Invariants: text->len <= 2 * limits.bytes (an escape may be added for each byte); the stack holds
 * `depth` kinds while `error` is NULL, and is not looked at once it is set.
 */
struct json_grammar {
    struct json_limits limits;
    char *error; /* the first error in this value, or NULL */
    size_t tokens, members;
    long braces, brackets; /* opened less closed */
    unsigned depth;
    char *stack; /* the kinds of the containers that are open: '{' or '[' */
    enum json_expect expect;
    bool key_is_id, in_id;
    size_t string_start; /* in text: behind the opening quote of the last string */
    GString *text, *id;  /* strict JSON; the text of the top-level member "id" */
};

/* Both buffers and the stack are allocated by init and freed by clear. */
void json_grammar_init(struct json_grammar *g, const struct json_limits *limits);
void json_grammar_clear(struct json_grammar *g);
/* Forget the value. Buffers that one large value has grown are given back. */
void json_grammar_reset(struct json_grammar *g);

/* Empty a buffer; give its memory back if it is large. */
void json_grammar_empty(GString **buffer);

/* Note an error; only the first one in a value counts. Nothing is stored after it. */
void json_grammar_error(struct json_grammar *g, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Append strict JSON to the text, and to the id inside of it. */
void json_grammar_store(struct json_grammar *g, const char *bytes, size_t length);

/* Store the quotes of a string; what it contains is stored between the two calls. end notes an
 * error if that is not UTF-8. */
void json_grammar_begin_string(struct json_grammar *g);
void json_grammar_end_string(struct json_grammar *g);

/* Take a token. `raw` is its text where it is a number or a word, `c` its character where it is
 * punctuation. A string has been stored, with its quotes, before. */
enum json_progress json_grammar_take(struct json_grammar *g, enum json_token kind,
                                     const GString *raw, char c);

#endif
