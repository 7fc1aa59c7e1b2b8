/* SPDX-License-Identifier: BSD-3-Clause */
/* What standard output is, and text that is safe to show there. Any thread, but for
 * terminal_init. */
#ifndef CLIENT_BASE_TERMINAL_H
#define CLIENT_BASE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

enum colours { COLOURS_NONE, COLOURS_8, COLOURS_256 };

struct terminal {
    bool is_terminal;
    bool utf8;            /* the locale's encoding; else only ASCII may be printed */
    bool bold;            /* headers may be in bold; false where NO_COLOR is set */
    enum colours colours; /* NONE if it is no terminal, or has none, or NO_COLOR is set */
    unsigned width;       /* columns; 80 where it is not a terminal */
};

/* Look at standard output and the environment. Call setlocale() first. */
void terminal_init(struct terminal *t);

/* A copy of `text` in which a character that could move the cursor, or change the terminal or the
 * direction of writing, stands as \u{HEX}; with `ascii`, every character that is not ASCII does.
 * Bytes that are not UTF-8 become U+FFFD. The caller g_frees it. */
char *text_clean(const char *text, bool ascii);

/* Columns that clean UTF-8 text takes. */
unsigned text_width(const char *text);

#endif
