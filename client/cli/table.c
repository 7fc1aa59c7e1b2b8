/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/table.h"
#include "common/base/size.h"

#include <inttypes.h>

/* Spaces between two columns. */
#define GAP 2

struct table {
    const struct terminal *terminal;
    const char *const *headers;
    unsigned columns;
    GPtrArray *cells; /* char *, row by row */
};

struct table *table_new(const struct terminal *terminal, const char *const headers[])
{
    struct table *t = g_new0(struct table, 1);

    t->terminal = terminal;
    t->headers = headers;
    while (headers[t->columns])
        t->columns++;
    t->cells = g_ptr_array_new_with_free_func(g_free);
    return t;
}

void table_free(struct table *t)
{
    g_ptr_array_unref(t->cells);
    g_free(t);
}

void table_add(struct table *t, const char *text)
{
    const char *shown = text && *text != '\0' ? text : "-";

    g_ptr_array_add(t->cells, text_clean(shown, !t->terminal->utf8));
}

void table_add_size(struct table *t, uint64_t bytes)
{
    char buf[16];

    table_add(t, size_format(bytes, buf));
}

void table_add_number(struct table *t, uint64_t number)
{
    g_ptr_array_add(t->cells, g_strdup_printf("%" PRIu64, number));
}

char *time_text(int64_t usec)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_local(usec / G_USEC_PER_SEC);

    return usec != 0 && when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : NULL;
}

void table_add_time(struct table *t, int64_t usec)
{
    g_autofree char *text = time_text(usec);

    table_add(t, text);
}

static bool is_right(const struct table *t, unsigned column)
{
    return t->headers[column][0] == '>';
}

static const char *header(const struct table *t, unsigned column)
{
    return t->headers[column] + is_right(t, column);
}

static const char *cell(const struct table *t, guint row, unsigned column)
{
    return g_ptr_array_index(t->cells, row * t->columns + column);
}

static guint n_rows(const struct table *t)
{
    return t->cells->len / t->columns;
}

static unsigned column_width(const struct table *t, unsigned column)
{
    unsigned width = text_width(header(t, column));

    for (guint row = 0; row < n_rows(t); row++)
        width = MAX(width, text_width(cell(t, row, column)));
    return width;
}

static void append_spaces(GString *out, unsigned count)
{
    g_string_append_printf(out, "%*s", (int)count, "");
}

/* Append one cell, padded to `width`, except at the end of a line. */
static void append_cell(const struct table *t, GString *out, unsigned column, const char *text,
                        unsigned width)
{
    unsigned padding = width - text_width(text);

    if (is_right(t, column))
        append_spaces(out, padding);
    g_string_append(out, text);
    if (column + 1 == t->columns) {
        g_string_append_c(out, '\n');
        return;
    }
    append_spaces(out, (is_right(t, column) ? 0 : padding) + GAP);
}

void table_print(const struct table *t, GString *out)
{
    g_autofree unsigned *widths = g_new(unsigned, t->columns);

    for (unsigned c = 0; c < t->columns; c++)
        widths[c] = column_width(t, c);
    g_string_append(out, t->terminal->bold ? "\033[1m" : "");
    for (unsigned c = 0; c < t->columns; c++)
        append_cell(t, out, c, header(t, c), widths[c]);
    if (t->terminal->bold) {
        g_string_truncate(out, out->len - 1); /* the newline belongs behind the bold text */
        g_string_append(out, "\033[0m\n");
    }
    for (guint row = 0; row < n_rows(t); row++) {
        for (unsigned c = 0; c < t->columns; c++)
            append_cell(t, out, c, cell(t, row, c), widths[c]);
    }
}
