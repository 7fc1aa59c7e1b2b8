/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/text.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

bool text_is_valid(const void *bytes, size_t length)
{
    /* g_utf8_validate_len counts a NUL as invalid where the length is given. */
    return length == 0 || g_utf8_validate_len(bytes, length, NULL);
}

bool text_equal(struct text t, const char *s)
{
    return strlen(s) == t.length && (t.length == 0 || memcmp(t.at, s, t.length) == 0);
}

bool text_has_prefix(struct text t, const char *prefix)
{
    size_t n = strlen(prefix);
    return t.length >= n && memcmp(t.at, prefix, n) == 0;
}

/* The length of the character at `at`. *shown: it may be shown, since it steers neither a terminal
 * nor the direction of writing. */
static size_t one_character(const char *at, size_t left, bool *shown)
{
    gunichar c = g_utf8_get_char_validated(at, (gssize)left);

    *shown = c < 0x110000 && g_unichar_isprint(c) && c != '\\';
    return c < 0x110000 ? (size_t)g_unichar_to_utf8(c, NULL) : 1;
}

char *text_for_display(struct text t, size_t max)
{
    size_t n = t.length;
    if (n > max) {
        n = max;
        while (n > 0 && ((uint8_t)t.at[n] & 0xc0) == 0x80)
            n--; /* not inside a character */
    }
    GString *s = g_string_sized_new(n + 8);
    for (size_t i = 0, length; i < n; i += length) {
        bool shown;
        length = one_character(t.at + i, n - i, &shown);
        if (shown)
            g_string_append_len(s, t.at + i, (gssize)length);
        for (size_t j = 0; !shown && j < length; j++)
            g_string_append_printf(s, "\\x%02x", (uint8_t)t.at[i + j]);
    }
    if (n < t.length)
        g_string_append(s, "...");
    return g_string_free(s, FALSE);
}
