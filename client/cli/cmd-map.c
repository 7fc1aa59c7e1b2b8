/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl map: what is dirty or allocated, as a picture, a page, or JSON. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/find-export.h"
#include "client/cli/map-output.h"
#include "client/map/nbd-extents.h"
#include "client/map/nbd-uri.h"

#include <string.h>

struct map_options {
    char *context, *bitmap, *html;
    gboolean summary, ascii;
};

/* ---- the command ---- */

static char *choose_context(const struct map_options *o)
{
    if (o->bitmap)
        return g_strconcat("qemu:dirty-bitmap:", o->bitmap, NULL);
    return g_strdup(o->context ? o->context : "base:allocation");
}

static int check_options(const struct map_options *o, bool json, GError **err)
{
    if (o->context && o->bitmap)
        return client_fail(err, CLIENT_ERROR_USAGE, "map: --context or --bitmap, not both");
    if ((o->context && !g_utf8_validate(o->context, -1, NULL)) ||
        (o->bitmap && !g_utf8_validate(o->bitmap, -1, NULL)))
        return client_fail(err, CLIENT_ERROR_USAGE, "map: the name is not UTF-8");
    if (o->html && (o->summary || json))
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "map: --html goes with neither --summary nor --json");
    return 0;
}

static int tell_extents(void *n, map_output_sink sink, void *opaque, GError **err)
{
    return nbd_extents_read(n, sink, opaque, err);
}

/* Read the map of `uri` and print it as the options say; `title` names it to people. */
static int run(struct client *c, const struct map_options *options, const char *title,
               const char *uri, GError **err)
{
    g_autofree char *context = choose_context(options);
    g_autoptr(nbd_extents) n = nbd_extents_open(uri, context, err);
    struct map_output o = {.title = title,
                           .context = context,
                           .html = options->html,
                           .summary = options->summary,
                           .ascii = options->ascii};

    if (!n)
        return -1;
    o.size = nbd_extents_size(n);
    return map_output(c, &o, tell_extents, n, err);
}

static int run_map(struct client *c, const void *options, char **args, GError **err)
{
    const char *target = args[0];
    g_autofree char *uri = NULL;
    GError *error = NULL;

    if (check_options(options, c->json, err) < 0)
        return -1;
    if (strstr(target, "://")) {
        if (nbd_uri_check(target, err) < 0)
            return -1;
        if (run(c, options, target, target, err) < 0) {
            g_prefix_error(err, "map %s: ", target);
            return -1;
        }
        return 0;
    }
    uri = find_export(c, target, err);
    if (!uri)
        return -1;
    if (run(c, options, target, uri, &error) == 0)
        return 0;
    if (find_export_explain(c, target, &error))
        g_propagate_prefixed_error(err, error, "map %s: ", target);
    else
        g_propagate_prefixed_error(err, error, "map %s (%s): ", target, uri);
    return -1;
}

#define FIELD(name) offsetof(struct map_options, name)
static const struct option map_options[] = {
    {"context", 0, OPTION_TEXT, "NAME", FIELD(context),
     "the NBD meta context to show (default: base:allocation)"},
    {"bitmap", 'b', OPTION_TEXT, "NAME", FIELD(bitmap),
     "the dirty bitmap to show: context qemu:dirty-bitmap:NAME"},
    {"summary", 's', OPTION_FLAG, NULL, FIELD(summary), "no picture, only the totals"},
    {"html", 0, OPTION_TEXT, "FILE", FIELD(html), "write the picture as a page for browsers"},
    {"ascii", 0, OPTION_FLAG, NULL, FIELD(ascii), "draw with ASCII characters alone"},
    {NULL},
};
#undef FIELD

const struct command cmd_map = {
    .name = "map",
    .synopsis = "URI|DISK [--context NAME | --bitmap NAME] [--summary | --html FILE] [--ascii]",
    .summary = "a picture of what is allocated or dirty",
    .help = "Without --context or --bitmap it shows what is allocated (base:allocation).\n"
            "DISK, or any other export's name, is found through the control socket; for an\n"
            "NBD URI no control socket is needed.\n",
    .min_args = 1,
    .max_args = 1,
    .options = map_options,
    .options_size = sizeof(struct map_options),
    .run = run_map,
};
