/* SPDX-License-Identifier: BSD-3-Clause */
/* What standard output is, and text that is safe to show there. */
#ifndef CLIENT_BASE_TERMINAL_H
#define CLIENT_BASE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

enum colours { COLOURS_NONE, COLOURS_8, COLOURS_256 };

struct terminal {
    bool is_terminal;
    bool utf8;            /* the locale's encoding; else ASCII alone may be printed */
    bool bold;            /* headers may be in bold; false where NO_COLOR is set */
    enum colours colours; /* NONE unless it is a terminal that has some, and NO_COLOR is not set */
    unsigned width;       /* columns; 80 where it is not a terminal */
};

/* Look at standard output and the environment. Call setlocale() first. */
void terminal_init(struct terminal *t);

/* A copy of UTF-8 `text` in which everything that could move the cursor, change the terminal or
 * the direction of writing (and, with ascii, all that is not ASCII) stands as \u{HEX}. */
char *text_clean(const char *text, bool ascii);

/* Columns that clean UTF-8 text takes. */
unsigned text_width(const char *text);

#endif
