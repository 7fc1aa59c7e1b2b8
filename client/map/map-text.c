/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map-text.h"
#include "client/map/map-figures.h"
#include "client/map/map-totals.h"

#include <string.h>

/* Widest offset: "1023.75 MiB". */
#define LABEL_WIDTH 11
#define LEFT        (LABEL_WIDTH + 2)
/* The most columns that the legend takes on one line. */
#define LEGEND_WIDTH 74
/* Cells between two offsets in the line above the picture. */
#define TICK 16

static const char *const unicode_glyphs[MAP_LEVELS] = {"·", "▁", "░", "▒", "▓", "█"};
static const char *const ascii_glyphs[MAP_LEVELS] = {".", "_", "-", "+", "*", "#"};

/* SGR parameters of each level. */
static const char *const no_colours[MAP_LEVELS] = {"", "", "", "", "", ""};
static const char *const dirty_256[MAP_LEVELS] = {"38;5;240", "38;5;109", "38;5;221",
                                                  "38;5;214", "38;5;208", "38;5;203"};
static const char *const data_256[MAP_LEVELS] = {"38;5;240", "38;5;109", "38;5;75",
                                                 "38;5;75",  "38;5;39",  "38;5;39"};
static const char *const dirty_8[MAP_LEVELS] = {"2", "36", "33", "33", "31", "31"};
static const char *const data_8[MAP_LEVELS] = {"2", "36", "36", "36", "34", "34"};

unsigned map_columns_for(unsigned width)
{
    unsigned columns = width > LEFT + 1 ? (width - LEFT - 1) / TICK * TICK : 0;

    return CLAMP(columns, TICK, 16 * TICK);
}

/* How to draw: a glyph and a colour for each level. */
struct brush {
    const char *const *glyphs, *const *colours;
};

static struct brush choose_brush(const map *m, const struct terminal *terminal, bool ascii)
{
    bool dirty = m->kind == MAP_DIRTY || m->kind == MAP_CHANGED;
    struct brush b = {.glyphs = ascii || !terminal->utf8 ? ascii_glyphs : unicode_glyphs,
                      .colours = no_colours};

    switch (terminal->colours) {
    case COLOURS_NONE:
        break;
    case COLOURS_8:
        b.colours = dirty ? dirty_8 : data_8;
        break;
    case COLOURS_256:
        b.colours = dirty ? dirty_256 : data_256;
        break;
    }
    return b;
}

/* Append `count` cells of one level. */
static void append_run(GString *out, const struct brush *b, enum map_level level, size_t count)
{
    const char *colour = b->colours[level];

    if (*colour != '\0')
        g_string_append_printf(out, "\033[%sm", colour);
    while (count-- > 0)
        g_string_append(out, b->glyphs[level]);
    if (*colour != '\0')
        g_string_append(out, "\033[0m");
}

static void append_row(const map *m, const struct brush *b, unsigned row, GString *out)
{
    size_t first = (size_t)row * m->columns, end = MIN(first + m->columns, m->n_cells);
    g_autofree char *label = map_offset_text(first * m->span);

    g_string_append_printf(out, "%*s  ", LABEL_WIDTH, label);
    while (first < end) {
        enum map_level level = map_level(m, first);
        size_t next = first + 1;

        while (next < end && map_level(m, next) == level)
            next++;
        append_run(out, b, level, next - first);
        first = next;
    }
    g_string_append_c(out, '\n');
}

/* Append the line of offsets inside a row, each above the cell where it begins. */
static void append_ruler(const map *m, GString *out)
{
    g_string_append_printf(out, "%*s", LEFT, "");
    for (unsigned column = 0; column < MIN(m->columns, m->n_cells); column += TICK) {
        g_autofree char *offset = map_offset_text(column * m->span);
        bool last = column + TICK >= MIN(m->columns, m->n_cells);

        g_string_append_printf(out, "+%-*s", last ? 0 : TICK - 1, offset);
    }
    g_string_append_c(out, '\n');
}

static void append_legend(const map *m, const struct brush *b, unsigned width, GString *out)
{
    g_autofree char *span = map_offset_text(m->span);

    g_string_append_printf(out, "%*s", LEFT, "");
    append_run(out, b, MAP_FULL, 1);
    g_string_append_printf(out, " %s  ", map_legend(m->kind, MAP_SET));
    if (map_has_level(m, MAP_LOW) || map_has_level(m, MAP_MIDDLE) || map_has_level(m, MAP_HIGH)) {
        append_run(out, b, MAP_HIGH, 1);
        append_run(out, b, MAP_MIDDLE, 1);
        append_run(out, b, MAP_LOW, 1);
        g_string_append(out, " partly  ");
    }
    if (map_has_level(m, MAP_ZEROES)) {
        append_run(out, b, MAP_ZEROES, 1);
        g_string_append_printf(out, " %s  ", map_legend(m->kind, MAP_ZERO));
    }
    append_run(out, b, MAP_EMPTY, 1);
    g_string_append_printf(out, " %s", map_legend(m->kind, MAP_CLEAR));
    if (width < LEGEND_WIDTH)
        g_string_append_printf(out, "\n%*s", LEFT, "");
    else
        g_string_append(out, "   ");
    g_string_append_printf(out, "a cell is %s\n", span);
}

void map_print_picture(const map *m, const struct terminal *terminal, bool ascii, GString *out)
{
    struct brush brush = choose_brush(m, terminal, ascii);

    if (m->n_cells == 0)
        return;
    append_ruler(m, out);
    for (unsigned row = 0; row < m->rows; row++)
        append_row(m, &brush, row, out);
    g_string_append_c(out, '\n');
    append_legend(m, &brush, terminal->width, out);
}

void map_print_title(const map *m, const struct terminal *terminal, GString *out)
{
    g_autofree char *title = text_clean(m->title, !terminal->utf8);
    g_autofree char *context = text_clean(m->context, !terminal->utf8);

    g_string_append_printf(out, "%s%s%s  %s\n", terminal->bold ? "\033[1m" : "", title,
                           terminal->bold ? "\033[0m" : "", context);
}

void map_print_totals(const map *m, GString *out)
{
    g_autoptr(GArray) totals = map_totals(m);

    for (guint i = 0; i < totals->len; i++) {
        const struct map_total *t = &g_array_index(totals, struct map_total, i);

        g_string_append_printf(out, "%*s  %12s  %8s  %s\n", LABEL_WIDTH, t->word, t->bytes,
                               t->percent, t->extents);
    }
}
