/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/json/write.h"

#include <stdbool.h>
#include <string.h>

/* Decimal digits that any double keeps. */
#define DOUBLE_DIGITS 15

/* ---- strict ---- */

/* Append the string that begins at `text`; returns what follows it. */
static const char *append_string(GString *out, const char *text)
{
    bool escaped = false;
    const char *p = text;

    do {
        if ((unsigned char)*p < 0x20)
            g_string_append_printf(out, "\\u%04x", (unsigned char)*p);
        else
            g_string_append_c(out, *p);
        escaped = !escaped && *p == '\\';
        p++;
    } while (*p != '"' || escaped);
    g_string_append_c(out, '"');
    return p + 1;
}

/* json-glib writes 17 digits, 0.012375000000000001. Where 15 are the same number, these are written. */
static void append_fraction(GString *out, const char *word, size_t length)
{
    g_autofree char *copy = g_strndup(word, length);
    double value = g_ascii_strtod(copy, NULL);
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_ascii_formatd(text, sizeof text, "%.15g", value);
    g_string_append(out, g_ascii_strtod(text, NULL) == value ? text : copy);
}

/* A number as json-glib writes it, or true, false, null. */
static void append_word(GString *out, const char *word, size_t length)
{
    const char *digits = *word == '-' ? word + 1 : word;
    size_t sign = (size_t)(digits - word);

    if (*digits == 'i') /* inf */
        g_string_append_printf(out, "%.*s1e999", (int)sign, word);
    else if (g_ascii_isdigit(*digits) && memchr(word, 'e', length) && length > 2 &&
             strncmp(word + length - 2, ".0", 2) == 0)
        g_string_append_len(out, word, (gssize)length - 2);
    else if (length > DOUBLE_DIGITS && g_ascii_isdigit(*digits) && memchr(word, '.', length))
        append_fraction(out, word, length);
    else
        g_string_append_len(out, word, (gssize)length);
}

char *json_write(JsonNode *node, bool pretty)
{
    g_autofree char *text = json_to_string(node, pretty);
    GString *out = g_string_sized_new(strlen(text));

    for (const char *p = text; *p != '\0';) {
        size_t n = strcspn(p, " \n,:[]{}\"");

        if (n > 0) {
            append_word(out, p, n);
            p += n;
        } else if (*p == '"') {
            p = append_string(out, p);
        } else {
            g_string_append_c(out, *p++);
        }
    }
    return g_string_free(out, FALSE);
}

/* ---- in QMP's manner ---- */

static void append_character(GString *out, gunichar c)
{
    if (c >= 0x20 && c < 0x7f)
        g_string_append_c(out, (char)c);
    else if (c < 0x10000)
        g_string_append_printf(out, "\\u%04x", c);
    else
        g_string_append_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                               0xdc00 + ((c - 0x10000) & 0x3ff));
}

void json_value_append_text(GString *out, const char *text, size_t length)
{
    const char *end = text + length;
    bool in_string = false;

    for (const char *p = text; p < end;) {
        gunichar c = g_utf8_get_char_validated(p, end - p);

        if (c == (gunichar)-1 || c == (gunichar)-2) {
            append_character(out, 0xfffd);
            p++;
            continue;
        }
        append_character(out, c);
        p = g_utf8_next_char(p);
        if (c == '"')
            in_string = !in_string;
        else if (c == '\\' && p < end)
            g_string_append_c(out, *p++); /* an escape: what follows ends no string */
        else if (!in_string && (c == ':' || c == ','))
            g_string_append_c(out, ' ');
    }
}

void json_value_append(GString *out, JsonNode *node)
{
    g_autofree char *text = json_write(node, false);

    json_value_append_text(out, text, strlen(text));
}

void json_value_append_string(GString *out, const char *string)
{
    JsonNode *node = json_node_init_string(json_node_alloc(), string);

    json_value_append(out, node);
    json_node_unref(node);
}
