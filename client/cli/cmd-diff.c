/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl diff: what changed between two backups. */
#include "client/base/error.h"
#include "client/cli/chain-doubt.h"
#include "client/cli/command.h"
#include "client/cli/map-output.h"
#include "client/map/map-context.h"
#include "client/repo/diff.h"

#include <inttypes.h>
#include <string.h>

struct diff_command {
    char *disk, *html;
    gboolean summary, ascii;
};

static int tell(void *diff, map_output_sink sink, void *opaque, GError **err)
{
    return diff_tell(diff, sink, opaque, err);
}

static int show_disk(struct client *c, const struct diff_command *dc, const struct repository *r,
                     const struct repo_member *a, const struct repo_member *b, const char *disk,
                     GError **err)
{
    struct diff *d = diff_open(r, a, b, disk, err);
    g_autofree char *title =
        g_strdup_printf("%s %" PRId64 "..%" PRId64, disk, MIN(a->id, b->id), MAX(a->id, b->id));
    struct map_output o = {.title = title,
                           .context = MAP_CONTEXT_CHANGED,
                           .html = dc->html,
                           .summary = dc->summary,
                           .ascii = dc->ascii};
    int result = -1;

    if (d) {
        tell_chain_doubt(r, a, disk);
        if (a != b)
            tell_chain_doubt(r, b, disk);
        o.size = diff_size(d);
        result = map_output(c, &o, tell, d, err);
    }
    diff_free(d);
    return result;
}

/* Disks that both have: names, lent. */
static GPtrArray *common_disks(const struct repo_member *a, const struct repo_member *b)
{
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; i < a->disks->len; i++) {
        char *name = ((struct repo_disk *)a->disks->pdata[i])->disk;

        if (repo_member_disk(b, name))
            g_ptr_array_add(names, name);
    }
    return names;
}

static int show_all(struct client *c, const struct diff_command *dc, const struct repository *r,
                    const struct repo_member *a, const struct repo_member *b, GError **err)
{
    g_autoptr(GPtrArray) names = common_disks(a, b);

    if (names->len == 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "diff: the backups %" PRId64 " and %" PRId64 " have no disk in common",
                           a->id, b->id);
    if (dc->html && names->len > 1)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "diff: a page is of one disk: --disk says which");
    for (guint i = 0; i < names->len; i++) {
        if (i > 0 && !c->json)
            g_string_append_c(c->out, '\n');
        if (show_disk(c, dc, r, a, b, names->pdata[i], err) < 0)
            return -1;
    }
    return 0;
}

static int run_diff(struct client *c, const void *options, char **args, GError **err)
{
    const struct diff_command *dc = options;
    g_autoptr(repository) r = NULL;
    const struct repo_member *a, *b;

    if (dc->html && (dc->summary || c->json))
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "diff: --html goes with neither --summary nor --json");
    r = repository_open(args[0], REPO_READ, err);
    a = r ? repository_until(r, args[1], dc->disk, err) : NULL;
    b = a ? repository_until(r, args[2], dc->disk, err) : NULL;
    if (!b)
        return -1;
    return dc->disk ? show_disk(c, dc, r, a, b, dc->disk, err) : show_all(c, dc, r, a, b, err);
}

#define FIELD(name) offsetof(struct diff_command, name)
static const struct option diff_options[] = {
    {"disk", 0, OPTION_TEXT, "DISK", FIELD(disk), "this disk alone"},
    {"summary", 's', OPTION_FLAG, NULL, FIELD(summary), "no picture, only the totals"},
    {"html", 0, OPTION_TEXT, "FILE", FIELD(html), "write the picture as a page for browsers"},
    {"ascii", 0, OPTION_FLAG, NULL, FIELD(ascii), "draw with ASCII characters alone"},
    {NULL},
};
#undef FIELD

const struct command cmd_diff = {
    .name = "diff",
    .synopsis = "REPO A B [--disk DISK] [--summary | --html FILE] [--ascii]",
    .summary = "what changed between two backups",
    .help = "A and B are IDs of backups, or times. Where the older one is on the chain of the\n"
            "newer, what was written in between is shown, also if the data are the same; else\n"
            "contents are compared.\n",
    .min_args = 3,
    .max_args = 3,
    .options = diff_options,
    .options_size = sizeof(struct diff_command),
    .run = run_diff,
};
