/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map-html.h"
#include "client/base/html.h"
#include "client/map/map-figures.h"
#include "client/map/map-totals.h"

#include <inttypes.h>
#include <string.h>

/* Pixels: a cell, and the room for row offsets and for the ruler. */
#define CELL 8
#define LEFT 84
#define TOP  20
/* Cells between two offsets of the ruler, rows between two at the left. */
#define TICK     16
#define ROW_TICK 4

static const char *const classes[MAP_LEVELS] = {"e", "z", "l1", "l2", "l3", "f"};

static const char head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"generator\" content=\"fleecectl\">\n";

static const char style[] =
    "<style>\n"
    ":root { --page: #fff; --text: #1c2430; --dim: #68727f; --e: #eceff3; --z: #b9d5cf;\n"
    "  --line: #d8dde3; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --page: #12161c; --text: #e4e8ee; --dim: #8b95a3; --e: #222933; --z: #3d5c57;\n"
    "    --line: #323b47; } }\n"
    "body { background: var(--page); color: var(--text); margin: 2rem auto; max-width: 1140px;\n"
    "  padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; }\n"
    "h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }\n"
    "p { color: var(--dim); margin: .2rem 0 1.2rem; overflow-wrap: anywhere; }\n"
    "svg { width: 100%; height: auto; display: block; }\n"
    "svg text { font: 11px system-ui, sans-serif; fill: var(--dim); }\n"
    "rect.e, i.e { fill: var(--e); background: var(--e); }\n"
    "rect.z, i.z { fill: var(--z); background: var(--z); }\n"
    "rect.l1, i.l1 { fill: var(--l1); background: var(--l1); }\n"
    "rect.l2, i.l2 { fill: var(--l2); background: var(--l2); }\n"
    "rect.l3, i.l3 { fill: var(--l3); background: var(--l3); }\n"
    "rect.f, i.f { fill: var(--f); background: var(--f); }\n"
    "rect.g { fill: url(#grid); pointer-events: none; }\n"
    "pattern path { stroke: var(--page); }\n"
    ".legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 1rem 0; }\n"
    ".legend i { display: inline-block; width: .9em; height: .9em; border-radius: 2px;\n"
    "  vertical-align: -.1em; margin-right: 2px; }\n"
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums; }\n"
    "td, th { padding: .3rem 1.2rem .3rem 0; text-align: right; font-weight: normal; }\n"
    "td:first-child { text-align: left; }\n"
    "tr + tr td { border-top: 1px solid var(--line); }\n"
    "tr:last-child td { font-weight: 600; }\n";

/* Colours of partly and wholly set cells: the fuller a cell, the more it stands out. */
static const char dirty_style[] =
    ":root { --l1: #f7ce5b; --l2: #f5a742; --l3: #ee7d38; --f: #dc4a3d; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --l1: #6d5524; --l2: #a5702c; --l3: #d97c3b; --f: #ff6f5b; } }\n";
static const char data_style[] =
    ":root { --l1: #a9cdf2; --l2: #74aeea; --l3: #4a8fdd; --f: #2468bd; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --l1: #24466b; --l2: #2f659e; --l3: #4389d0; --f: #70b4ff; } }\n";

/* The text that the mouse shows over cells first..end - 1, which are of one level. */
static void append_tooltip(const map *m, size_t first, size_t end, GString *out)
{
    uint64_t start = first * m->span, stop = (end - 1) * m->span + map_cell_size(m, end - 1);
    uint64_t bytes[MAP_ROLES] = {0};
    g_autofree char *from = map_offset_text(start);
    g_autofree char *to = map_offset_text(stop);

    for (size_t i = first; i < end; i++) {
        for (unsigned role = 0; role < MAP_ROLES; role++)
            bytes[role] += m->cells[i].bytes[role];
    }
    g_string_append_printf(out, "<title>%s \u2013 %s", from, to);
    for (unsigned role = 0; role < MAP_ROLES; role++) {
        g_autofree char *percent = map_percent_text(bytes[role], stop - start);

        if (bytes[role] > 0)
            g_string_append_printf(out, "\n%s %s", percent, map_legend(m->kind, role));
    }
    g_string_append(out, "</title>");
}

static void append_row(const map *m, unsigned row, GString *out)
{
    size_t first = (size_t)row * m->columns, end = MIN(first + m->columns, m->n_cells),
           begin = first;

    if (row % ROW_TICK == 0) {
        g_autofree char *label = map_offset_text(first * m->span);

        g_string_append_printf(out, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">%s</text>\n",
                               LEFT - 8, TOP + row * CELL + CELL, label);
    }
    while (begin < end) {
        enum map_level level = map_level(m, begin);
        size_t next = begin + 1;

        while (next < end && map_level(m, next) == level)
            next++;
        g_string_append_printf(out,
                               "<rect class=\"%s\" x=\"%zu\" y=\"%u\" width=\"%zu\" height=\"%d\">",
                               classes[level], LEFT + (begin - first) * CELL, TOP + row * CELL,
                               (next - begin) * CELL, CELL);
        append_tooltip(m, begin, next, out);
        g_string_append(out, "</rect>\n");
        begin = next;
    }
}

static void append_picture(const map *m, GString *out)
{
    unsigned width = m->columns * CELL, height = m->rows * CELL;

    g_string_append_printf(out,
                           "<svg viewBox=\"0 0 %u %u\" role=\"img\" aria-label=\"map\">\n"
                           "<defs><pattern id=\"grid\" x=\"%d\" y=\"%d\" width=\"%d\" "
                           "height=\"%d\" patternUnits=\"userSpaceOnUse\"><path d=\"M0 0H%dM0 "
                           "0V%d\" stroke-width=\"1.6\"/></pattern></defs>\n",
                           LEFT + width + 40, TOP + height + 2, LEFT, TOP, CELL, CELL, CELL, CELL);
    for (unsigned column = 0; column < m->columns; column += TICK) {
        g_autofree char *offset = map_offset_text(column * m->span);

        g_string_append_printf(out, "<text x=\"%u\" y=\"%d\">+%s</text>\n", LEFT + column * CELL,
                               TOP - 7, offset);
    }
    for (unsigned row = 0; row < m->rows; row++)
        append_row(m, row, out);
    g_string_append_printf(out,
                           "<rect class=\"g\" x=\"%d\" y=\"%d\" width=\"%u\" height=\"%u\"/>\n"
                           "</svg>\n",
                           LEFT, TOP, width, height);
}

static void append_legend(const map *m, GString *out)
{
    g_autofree char *span = map_offset_text(m->span);

    g_string_append_printf(out,
                           "<div class=\"legend\">\n"
                           "<span><i class=\"f\"></i> %s</span>\n"
                           "<span><i class=\"l3\"></i><i class=\"l2\"></i><i class=\"l1\"></i> "
                           "partly</span>\n",
                           map_legend(m->kind, MAP_SET));
    if (map_has_level(m, MAP_ZEROES))
        g_string_append_printf(out, "<span><i class=\"z\"></i> %s</span>\n",
                               map_legend(m->kind, MAP_ZERO));
    g_string_append_printf(out,
                           "<span><i class=\"e\"></i> %s</span>\n"
                           "<span>a cell is %s</span>\n</div>\n",
                           map_legend(m->kind, MAP_CLEAR), span);
}

static void append_totals(const map *m, GString *out)
{
    g_autoptr(GArray) totals = map_totals(m);

    g_string_append(out, "<table>\n");
    for (guint i = 0; i < totals->len; i++) {
        const struct map_total *t = &g_array_index(totals, struct map_total, i);
        g_autofree char *percent = g_markup_escape_text(t->percent, -1);

        g_string_append_printf(out,
                               "<tr><td>%s</td><td>%s</td><td>%" PRIu64
                               " bytes</td><td>%s</td><td>%s</td></tr>\n",
                               t->word, t->bytes, t->n_bytes, percent, t->extents);
    }
    g_string_append(out, "</table>\n");
}

void map_print_html(const map *m, GString *out)
{
    g_autofree char *title = html_escape(m->title);
    g_autofree char *context = html_escape(m->context);

    g_string_append(out, head);
    g_string_append_printf(out, "<title>%s: %s</title>\n", title, context);
    g_string_append(out, style);
    g_string_append(out, m->kind == MAP_DIRTY || m->kind == MAP_CHANGED ? dirty_style : data_style);
    g_string_append_printf(out, "</style>\n</head>\n<body>\n<h1>%s</h1>\n<p>%s</p>\n", title,
                           context);
    if (m->n_cells > 0) {
        append_picture(m, out);
        append_legend(m, out);
    }
    append_totals(m, out);
    g_string_append(out, "</body>\n</html>\n");
}
