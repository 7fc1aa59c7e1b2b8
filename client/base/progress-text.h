/* SPDX-License-Identifier: BSD-3-Clause */
/* How a row of progress looks. Pure. */
#ifndef CLIENT_BASE_PROGRESS_TEXT_H
#define CLIENT_BASE_PROGRESS_TEXT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct progress_row {
    const char *name;     /* as it is to be shown */
    uint64_t done, total; /* bytes; total 0: not known */
    uint64_t moved;       /* bytes that were read */
    double rate;          /* bytes read a second; below 0: not known yet */
    double left;          /* seconds; below 0: not known */
    const char *word;     /* NULL: it goes on */
};

/* Append a line of at most `width` columns, without an end of line: the name, padded to
 * `name_width`, a bar, per cent, what was read, the rate, the time left. Where that does not fit, the
 * bar is left out, then the name is cut. */
void progress_text(GString *out, const struct progress_row *row, unsigned name_width,
                   unsigned width, bool utf8);

/* Append a line of JSON: {"progress": {"name", "done", "total", "read", "rate"?, "seconds-left"?,
 * "state"?}}. */
void progress_json(GString *out, const struct progress_row *row);

/* "7 s", "3 min 20 s", "2 h 5 min". */
void progress_append_time(GString *out, double seconds);

#endif
