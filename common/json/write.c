/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/json/write.h"

#include <string.h>

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
