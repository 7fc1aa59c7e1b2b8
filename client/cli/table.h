/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables for people: aligned columns under a header. */
#ifndef CLIENT_CLI_TABLE_H
#define CLIENT_CLI_TABLE_H

#include "client/base/terminal.h"

#include <glib.h>
#include <stdint.h>

typedef struct table table; /* for g_autoptr */

/* `headers` has one for each column, up to a NULL, and is not copied. A column whose header begins
 * with '>' is aligned to the right. */
struct table *table_new(const struct terminal *terminal, const char *const headers[]);
void table_free(struct table *t);

/* Append a cell, row by row from left to right. The text is cleaned; "" and NULL become "-". */
void table_add(struct table *t, const char *text);
void table_add_size(struct table *t, uint64_t bytes);
void table_add_number(struct table *t, uint64_t number);
void table_add_time(struct table *t, int64_t usec); /* as time_text */

/* Append the whole table to `out`; a table without rows is its header alone. */
void table_print(const struct table *t, GString *out);

/* "2026-11-20 17:01:02" in local time, which the caller frees. NULL: 0, which is a time that is not
 * known, or one that there cannot be. usec: microseconds since 1970. */
char *time_text(int64_t usec);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(table, table_free)

#endif
