/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One line for time, from the repository's first member to its last. On it a point for each member;
 * above it a bar, whose height is the square root of the file's bytes, so that small files are
 * seen beside a full one; below it an arc from each member to its parent.
 */
#include "client/repo/report-time.h"
#include "client/repo/report-figures.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define WIDTH  1100
#define LEFT   40
#define RIGHT  (WIDTH - 40)
#define TOP    14
#define BARS   70 /* height of the longest bar */
#define LINE   (TOP + BARS + 8)
#define ARCS   44 /* depth of the deepest arc */
#define BOTTOM (LINE + ARCS + 34)
#define TICKS  6
/* Pixels between two numbers of members. */
#define LABEL_GAP 22

struct axis {
    int64_t first, last; /* microseconds */
    uint64_t most;       /* bytes of the largest file */
};

static double place(const struct axis *a, int64_t time)
{
    if (a->last == a->first)
        return (LEFT + RIGHT) / 2.0;
    return LEFT + (double)(time - a->first) / (double)(a->last - a->first) * (RIGHT - LEFT);
}

/* Members are in order of their IDs; a server's clock may have been set back. */
static struct axis make_axis(const report *p, const struct report_disk *d)
{
    struct axis a = {.first = INT64_MAX, .last = INT64_MIN};

    for (guint i = 0; i < p->r->members->len; i++) {
        const struct repo_member *m = p->r->members->pdata[i];

        a.first = MIN(a.first, m->time);
        a.last = MAX(a.last, m->time);
    }
    for (guint i = 0; i < d->rows->len; i++)
        a.most = MAX(a.most, ((const struct report_row *)d->rows->pdata[i])->disk->bytes);
    return a;
}

static void print_ticks(const struct axis *a, GString *out)
{
    unsigned ticks = a->last > a->first ? TICKS : 1;

    for (unsigned i = 0; i < ticks; i++) {
        int64_t time = ticks > 1 ? a->first + (a->last - a->first) / (TICKS - 1) * i : a->first;
        g_autofree char *text = report_tick_text(time, a->last - a->first);

        g_string_append_printf(out,
                               "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
                               "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                               place(a, time), place(a, time), TOP, BOTTOM - 18, place(a, time),
                               BOTTOM - 4, text);
    }
}

static const struct report_row *find_row(const struct report_disk *d, int64_t id)
{
    for (guint i = 0; i < d->rows->len; i++) {
        const struct report_row *row = d->rows->pdata[i];

        if (row->member->id == id)
            return row;
    }
    return NULL;
}

static void print_arc(const struct axis *a, const struct report_disk *d,
                      const struct report_row *row, GString *out)
{
    const struct report_row *parent =
        row->disk->parent >= 0 ? find_row(d, row->disk->parent) : NULL;
    double from, to, depth;

    if (!parent)
        return;
    from = place(a, row->member->time);
    to = place(a, parent->member->time);
    depth = MIN(ARCS, 10 + fabs(from - to) / 6);
    g_string_append_printf(out,
                           "<path class=\"arc %s\" d=\"M%.1f %d C%.1f %.1f %.1f %.1f %.1f %d\"/>\n",
                           repo_level_name(row->disk->level), from, LINE, from, LINE + depth * 1.3,
                           to, LINE + depth * 1.3, to, LINE);
}

static void print_member(const struct axis *a, const struct report_row *row, double *labelled,
                         GString *out)
{
    const char *level = repo_level_name(row->disk->level);
    bool good = strcmp(row->status, "ok") == 0;
    double x = place(a, row->member->time);
    double height = BARS * sqrt((double)row->disk->bytes / (double)MAX(a->most, 1));
    g_autofree char *text = report_row_text(row);

    g_string_append_printf(out,
                           "<g><title>%s</title><rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" "
                           "width=\"6\" height=\"%.1f\" rx=\"1\"/>"
                           "<circle class=\"%s%s\" cx=\"%.1f\" cy=\"%d\" r=\"%d\"/></g>\n",
                           text, level, x - 3, LINE - 8 - height, height, level, good ? "" : " bad",
                           x, LINE, good ? 4 : 5);
    if (fabs(x - *labelled) < LABEL_GAP)
        return;
    g_string_append_printf(
        out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%" PRId64 "</text>\n", x,
        LINE - 12 - height, row->member->id);
    *labelled = x;
}

void report_print_time(const report *p, const struct report_disk *d, GString *out)
{
    struct axis a = make_axis(p, d);
    double labelled = -LABEL_GAP;

    g_string_append_printf(out,
                           "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"members in "
                           "time\">\n",
                           WIDTH, BOTTOM);
    print_ticks(&a, out);
    g_string_append_printf(out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n",
                           LEFT - 20, RIGHT + 20, LINE, LINE);
    for (guint i = 0; i < d->rows->len; i++)
        print_arc(&a, d, d->rows->pdata[i], out);
    for (guint i = 0; i < d->rows->len; i++)
        print_member(&a, d->rows->pdata[i], &labelled, out);
    g_string_append(out, "</svg>\n");
}
