/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/report-heat.h"
#include "client/base/html.h"
#include "client/map/map-figures.h"
#include "client/repo/report-figures.h"

#include <inttypes.h>
#include <string.h>

#define WIDTH 1100
#define LEFT  190
#define RIGHT (WIDTH - 84)
#define TOP   20
#define ROW   14
#define BAR   11 /* height of what is drawn in a row */
#define TICKS 4

static const char *const classes[MAP_LEVELS] = {"e", "e", "l1", "l2", "l3", "f"};

static double column(const map *m, size_t cell)
{
    return LEFT + (double)(RIGHT - LEFT) * (double)cell / (double)m->n_cells;
}

/* The text that the mouse shows over cells first..end - 1. */
static void print_tooltip(const map *m, size_t first, size_t end, GString *out)
{
    uint64_t start = first * m->span, stop = (end - 1) * m->span + map_cell_size(m, end - 1);
    g_autofree char *from = map_offset_text(start), *to = map_offset_text(stop);
    g_autofree char *percent = NULL;
    uint64_t set = 0;

    for (size_t i = first; i < end; i++)
        set += m->cells[i].bytes[MAP_SET];
    percent = map_percent_text(set, stop - start);
    g_string_append_printf(out, "<title>%s \u2013 %s\n%s in this file</title>", from, to, percent);
}

static void print_cells(const map *m, enum repo_level level, int y, GString *out)
{
    for (size_t first = 0, end; first < m->n_cells; first = end) {
        enum map_level shade = map_level(m, first);

        end = first + 1;
        while (end < m->n_cells && map_level(m, end) == shade)
            end++;
        if (shade == MAP_EMPTY || shade == MAP_ZEROES)
            continue;
        g_string_append_printf(out,
                               "<rect class=\"%s %s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" "
                               "height=\"%d\">",
                               level == REPO_FULL ? "data" : "heat", classes[shade],
                               column(m, first), y, column(m, end) - column(m, first), BAR);
        print_tooltip(m, first, end, out);
        g_string_append(out, "</rect>\n");
    }
}

static void print_row(const struct report_row *row, int y, GString *out)
{
    g_autofree char *time = report_tick_text(row->member->time, INT64_MAX),
                    *bytes = report_size_text(row->disk->bytes), *text = report_row_text(row);

    g_string_append_printf(out,
                           "<g><title>%s</title><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s  "
                           "%" PRId64 " %s</text>"
                           "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>"
                           "<rect class=\"e\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/></g>\n",
                           text, LEFT - 10, y + BAR - 2, time, row->member->id,
                           repo_level_name(row->disk->level), WIDTH - 4, y + BAR - 2, bytes, LEFT,
                           y, RIGHT - LEFT, BAR);
    if (row->heat) {
        print_cells(row->heat, row->disk->level, y, out);
    } else {
        g_autofree char *why = html_escape(row->why);

        g_string_append_printf(out, "<text class=\"bad\" x=\"%d\" y=\"%d\">%s</text>\n", LEFT + 6,
                               y + BAR - 2, why);
    }
}

static void print_ruler(const struct report_disk *d, GString *out)
{
    for (unsigned i = 0; i <= TICKS; i++) {
        g_autofree char *text = map_size_text(d->size / TICKS * i);
        const char *anchor = i == 0 ? "start" : i == TICKS ? "end" : "middle";

        g_string_append_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n",
                               LEFT + (RIGHT - LEFT) * (double)i / TICKS, TOP - 7, anchor, text);
    }
}

void report_print_heat(const struct report_disk *d, GString *out)
{
    if (d->size == 0)
        return;
    g_string_append_printf(out,
                           "<svg viewBox=\"0 0 %d %u\" role=\"img\" aria-label=\"what changed "
                           "where\">\n",
                           WIDTH, TOP + d->rows->len * ROW + 4);
    print_ruler(d, out);
    for (guint i = 0; i < d->rows->len; i++)
        print_row(d->rows->pdata[i], (int)(TOP + i * ROW), out);
    g_string_append(out, "</svg>\n");
}
