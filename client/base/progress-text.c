/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/progress-text.h"
#include "client/base/terminal.h"
#include "common/base/size.h"
#include "common/json/write.h"

#include <inttypes.h>

#define BAR_LEAST 10u
#define BAR_MOST  40u
#define FIGURES   46u             /* columns kept for them, so that nothing moves when they grow */
#define LONG      (1000.0 * 3600) /* seconds; longer times are not shown */

void progress_append_time(GString *out, double seconds)
{
    uint64_t s = seconds < LONG ? (uint64_t)(seconds + 0.5) : (uint64_t)LONG;

    if (s < 60)
        g_string_append_printf(out, "%" PRIu64 " s", s);
    else if (s < 3600)
        g_string_append_printf(out, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    else
        g_string_append_printf(out, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
}

/* Of `done` in `total`: parts of `whole`. All of them only at the end. */
static unsigned part(uint64_t done, uint64_t total, unsigned whole)
{
    if (done >= total)
        return whole;
    return (unsigned)((double)done / (double)total * whole);
}

/* What stands behind the bar. */
static void append_figures(GString *out, const struct progress_row *row)
{
    char size[16];

    if (row->total > 0)
        g_string_append_printf(out, "  %3u %%", part(row->done, row->total, 100));
    g_string_append_printf(out, "  %s", size_format(row->moved, size));
    if (row->rate >= 0)
        g_string_append_printf(out, "  %s/s", size_format((uint64_t)row->rate, size));
    if (row->word) {
        g_string_append_printf(out, "  %s", row->word);
    } else if (row->left >= 0 && row->left < LONG) {
        g_string_append(out, "  ");
        progress_append_time(out, row->left);
        g_string_append(out, " left");
    }
}

static void append_bar(GString *out, const struct progress_row *row, unsigned columns, bool utf8)
{
    unsigned full = part(row->done, row->total, columns);

    for (unsigned i = 0; i < columns; i++)
        g_string_append(out, i < full ? (utf8 ? "\u2588" : "#") : (utf8 ? "\u2591" : "."));
}

/* The name, in `columns` of them: what is too long ends in "...", or is left out. */
static void append_name(GString *out, const char *name, unsigned columns)
{
    unsigned used = text_width(name);

    if (used <= columns) {
        g_string_append_printf(out, "%s%*s", name, (int)(columns - used), "");
        return;
    }
    used = 0;
    for (const char *p = name; columns > 3; p = g_utf8_next_char(p)) {
        g_autofree char *character = g_utf8_substring(p, 0, 1);

        if (used + text_width(character) > columns - 3)
            break;
        g_string_append(out, character);
        used += text_width(character);
    }
    for (; used < columns; used++)
        g_string_append_c(out, '.');
}

void progress_text(GString *out, const struct progress_row *row, unsigned name_width,
                   unsigned width, bool utf8)
{
    g_autoptr(GString) figures = g_string_new(NULL);
    unsigned room = width - MIN(width, FIGURES); /* for the name and the bar */
    unsigned name = MIN(MAX(text_width(row->name), name_width), room);

    append_figures(figures, row);
    append_name(out, row->name, name);
    if (row->total > 0 && room >= name + 2 + BAR_LEAST) {
        g_string_append(out, "  ");
        append_bar(out, row, MIN(room - name - 2, BAR_MOST), utf8);
    }
    /* They are ASCII. */
    g_string_append_len(out, figures->str + (name > 0 ? 0 : 2),
                        (gssize)MIN(figures->len - (name > 0 ? 0 : 2), width - name));
}

void progress_json(GString *out, const struct progress_row *row)
{
    g_autoptr(JsonNode) name = json_node_init_string(json_node_alloc(), row->name);
    g_autofree char *quoted = json_write(name, false);

    g_string_append_printf(out,
                           "{\"progress\":{\"name\":%s,\"done\":%" PRIu64 ",\"total\":%" PRIu64
                           ",\"read\":%" PRIu64,
                           quoted, row->done, row->total, row->moved);
    if (row->rate >= 0)
        g_string_append_printf(out, ",\"rate\":%.0f", row->rate);
    if (row->left >= 0 && row->left < LONG)
        g_string_append_printf(out, ",\"seconds-left\":%.0f", row->left);
    if (row->word)
        g_string_append_printf(out, ",\"state\":\"%s\"", row->word);
    g_string_append(out, "}}\n");
}
