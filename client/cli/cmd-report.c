/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl report: a backup repository as a page for browsers. */
#include "client/base/error.h"
#include "client/base/output-file.h"
#include "client/cli/command.h"
#include "client/repo/report-html.h"

#include <string.h>

struct cmd_options {
    char *html;
};

static int run_report(struct client *c, const void *options, char **args, GError **err)
{
    const struct cmd_options *o = options;
    g_autoptr(repository) r = NULL;
    g_autoptr(GString) page = NULL;
    g_autoptr(report) p = NULL;

    if (!o->html)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "report: where to? give --html FILE (-: standard output)");
    r = repository_open(args[0], REPO_READ, err);
    if (!r)
        return -1;
    p = report_take(r);
    page = g_string_new(NULL);
    report_print_html(p, page);
    if (strcmp(o->html, "-") != 0)
        return output_file_write(o->html, page, err);
    g_string_append_len(c->out, page->str, (gssize)page->len);
    return 0;
}

static const struct option report_options[] = {
    {"html", 0, OPTION_TEXT, "FILE", offsetof(struct cmd_options, html),
     "write the page into FILE (-: to standard output)"},
    {NULL},
};

const struct command cmd_report = {
    .name = "report",
    .synopsis = "REPO --html FILE",
    .summary = "a backup repository as a page for browsers",
    .help =
        "It shows the members in time and what they stand on, their sizes, what changed where,\n"
        "and what fleecectl verify has found last. The page loads nothing from elsewhere.\n",
    .min_args = 1,
    .max_args = 1,
    .options = report_options,
    .options_size = sizeof(struct cmd_options),
    .run = run_report,
};
