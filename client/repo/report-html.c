/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/report-html.h"
#include "client/base/html.h"
#include "client/repo/report-figures.h"
#include "client/repo/report-heat.h"
#include "client/repo/report-style.h"
#include "client/repo/report-time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"generator\" content=\"fleecectl\">\n";

static const char time_legend[] =
    "<div class=\"legend\">\n"
    "<span><i style=\"background: var(--full)\"></i> full</span>\n"
    "<span><i style=\"background: var(--inc)\"></i> inc</span>\n"
    "<span><i style=\"background: var(--diff)\"></i> diff</span>\n"
    "<span>above the line: the size of the file (its square root); below it: what the member "
    "stands on</span>\n"
    "</div>\n";

static const char heat_legend[] =
    "<div class=\"legend\">\n"
    "<span><i style=\"background: var(--df)\"></i><i style=\"background: var(--d3)\"></i>"
    "<i style=\"background: var(--d2)\"></i><i style=\"background: var(--d1)\"></i> "
    "a full has, wholly to hardly</span>\n"
    "<span><i style=\"background: var(--hf)\"></i><i style=\"background: var(--h3)\"></i>"
    "<i style=\"background: var(--h2)\"></i><i style=\"background: var(--h1)\"></i> "
    "had changed, wholly to hardly</span>\n"
    "<span><i style=\"background: var(--e)\"></i> not in the file</span>\n"
    "</div>\n";

/* ---- the top ---- */

static void print_card(GString *out, const char *value, const char *what)
{
    g_string_append_printf(out, "<div><b>%s</b><span>%s</span></div>\n", value, what);
}

static void print_cards(const report *p, GString *out)
{
    const struct repo_member *newest = repository_newest(p->r, NULL);
    g_autofree char *bytes = report_size_text(p->bytes),
                    *time = newest ? report_time_text(newest->time) : g_strdup("none");
    char number[24];

    g_string_append(out, "<div class=\"cards\">\n");
    snprintf(number, sizeof number, "%u", p->r->members->len);
    print_card(out, number, p->r->members->len == 1 ? "member" : "members");
    snprintf(number, sizeof number, "%u", p->disks->len);
    print_card(out, number, p->disks->len == 1 ? "disk" : "disks");
    print_card(out, bytes, "in all files");
    print_card(out, time, "newest member");
    g_string_append(out, "</div>\n");
}

static void print_verdict(const report *p, GString *out)
{
    g_autofree char *sentence = report_verify_sentence(p);

    if (p->bad > 0)
        g_string_append_printf(out,
                               "<p class=\"bad\">Something is wrong with %u of %u files. %s</p>\n",
                               p->bad, p->files, sentence);
    else
        g_string_append_printf(out, "<p class=\"%s\">%s</p>\n",
                               p->files > 0 && p->deep == p->files ? "good" : "", sentence);
}

/* ---- a disk ---- */

/* What is wrong, in a line of its own; nothing, where nothing is known. */
static void print_wrong(const struct report_row *row, GString *out)
{
    const GPtrArray *wrong = row->verified ? row->verified->wrong : NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    if (row->why) {
        g_string_append(text, row->why);
    } else {
        for (guint i = 0; wrong && i < wrong->len; i++)
            g_string_append_printf(text, "%s%s", i > 0 ? "; " : "", (char *)wrong->pdata[i]);
    }
    if (text->len > 0) {
        g_autofree char *safe = html_escape(text->str);

        g_string_append_printf(out,
                               "<tr class=\"why\"><td></td><td class=\"bad\" colspan=\"9\">%s"
                               "</td></tr>\n",
                               safe);
    }
}

static void print_parent(const struct repo_disk *d, GString *out)
{
    if (d->parent >= 0)
        g_string_append_printf(out, "<td class=\"n\">%" PRId64 "</td>", d->parent);
    else
        g_string_append(out, "<td class=\"n\">\u2013</td>");
}

static void print_row(const struct report_row *row, GString *out)
{
    const struct repo_disk *d = row->disk;
    g_autofree char *time = report_time_text(row->member->time), *size = report_size_text(d->size),
                    *bytes = report_size_text(d->bytes), *read = report_size_text(d->read),
                    *checked = report_verified_text(row),
                    *checkpoint =
                        html_escape(row->member->checkpoint ? row->member->checkpoint : "\u2013");

    g_string_append_printf(out, "<tr><td class=\"n\">%" PRId64 "</td><td>%s</td><td>%s</td>",
                           row->member->id, time, repo_level_name(d->level));
    print_parent(d, out);
    g_string_append_printf(out,
                           "<td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td>"
                           "<td>%s</td><td>%s</td><td class=\"%s\">%s</td></tr>\n",
                           size, bytes, read, checkpoint, checked,
                           strcmp(row->status, "ok") == 0 ? "good" : "bad", row->status);
    print_wrong(row, out);
}

static void print_table(const struct report_disk *d, GString *out)
{
    g_string_append(out,
                    "<div class=\"scroll\"><table>\n<thead><tr><th class=\"n\">ID</th><th>time</th>"
                    "<th>level</th><th class=\"n\">over</th><th class=\"n\">disk</th>"
                    "<th class=\"n\">file</th><th class=\"n\">read</th><th>checkpoint</th>"
                    "<th>verified</th><th>status</th></tr></thead>\n<tbody>\n");
    for (guint i = d->rows->len; i > 0; i--)
        print_row(d->rows->pdata[i - 1], out);
    g_string_append(out, "</tbody></table></div>\n");
}

static void print_disk(const report *p, const struct report_disk *d, GString *out)
{
    g_autofree char *name = html_escape(d->name), *size = report_size_text(d->size),
                    *bytes = report_size_text(d->bytes), *read = report_size_text(d->read);

    g_string_append_printf(out,
                           "<section>\n<h2>%s</h2>\n<p>%s; %u %s of %s, read from the server: "
                           "%s</p>\n",
                           name, size, d->rows->len, d->rows->len == 1 ? "file" : "files", bytes,
                           read);
    g_string_append(out, "<h3>The chain in time</h3>\n");
    report_print_time(p, d, out);
    g_string_append(out, time_legend);
    g_string_append(out, "<h3>What changed where</h3>\n");
    report_print_heat(d, out);
    g_string_append(out, heat_legend);
    g_string_append(out, "<h3>Members, the newest first</h3>\n");
    print_table(d, out);
    g_string_append(out, "</section>\n");
}

void report_print_html(const report *p, GString *out)
{
    g_autofree char *title = html_escape(p->r->path);
    g_autofree char *created = report_time_text(p->r->created);

    g_string_append(out, head);
    g_string_append_printf(out,
                           "<title>Backups in %s</title>\n<style>\n%s</style>\n</head>\n<body>\n",
                           title, report_style);
    g_string_append_printf(out,
                           "<h1>Backups in %s</h1>\n<p>A repository of nbdfleece, %s, made at "
                           "%s</p>\n",
                           title, p->r->uuid, created);
    print_cards(p, out);
    print_verdict(p, out);
    for (guint i = 0; i < p->disks->len; i++)
        print_disk(p, p->disks->pdata[i], out);
    g_string_append(out, "</body>\n</html>\n");
}
