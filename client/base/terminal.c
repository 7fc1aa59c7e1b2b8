/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/terminal.h"

#include <glib.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_WIDTH 80

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);

    return value && *value != '\0';
}

void terminal_init(struct terminal *t)
{
    const char *term = getenv("TERM");
    bool dumb = !term || strcmp(term, "dumb") == 0;
    struct winsize size;

    memset(t, 0, sizeof *t);
    t->is_terminal = isatty(STDOUT_FILENO) == 1;
    t->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    t->width = DEFAULT_WIDTH;
    if (!t->is_terminal)
        return;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        t->width = size.ws_col;
    if (dumb || is_set("NO_COLOR"))
        return;
    t->bold = true;
    t->colours = strstr(term, "256color") || is_set("COLORTERM") ? COLOURS_256 : COLOURS_8;
}

/* Characters that act on the terminal or on the text around them. */
static bool acts(gunichar c)
{
    switch (g_unichar_type(c)) {
    case G_UNICODE_CONTROL:
    case G_UNICODE_FORMAT: /* also what changes the direction of writing */
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
    case G_UNICODE_SURROGATE:
    case G_UNICODE_UNASSIGNED:
        return true;
    default:
        return false;
    }
}

char *text_clean(const char *text, bool ascii)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *clean = g_string_new(NULL);

    for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (acts(c) || (ascii && c > 0x7e))
            g_string_append_printf(clean, "\\u{%x}", c);
        else
            g_string_append_unichar(clean, c);
    }
    return g_string_free(clean, FALSE);
}

unsigned text_width(const char *text)
{
    unsigned width = 0;

    for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        width += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}
