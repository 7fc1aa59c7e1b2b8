/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl pull: copy what an export has, or what is dirty of it, into a file, a device, another
 * export, or a stream. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/find-export.h"
#include "client/cli/option-values.h"
#include "client/map/nbd-uri.h"
#include "client/pull/pull.h"
#include "client/repo/repo-guard.h"
#include "common/base/size.h"
#include "common/json/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define RETRY 30u /* seconds */

struct cli_options {
    char *output, *context, *bitmap, *base, *base_format, *format, *compress;
    char *connections, *rate_limit, *retry;
    gboolean discard, detect_zeroes, resume, force;
};

/* ---- options ---- */

static bool is_stream(const struct cli_options *c)
{
    return strcmp(c->output, "-") == 0;
}

static int check_context(const struct cli_options *c, GError **err)
{
    if (c->context && c->bitmap)
        return client_fail(err, CLIENT_ERROR_USAGE, "pull: --context or --bitmap, not both");
    if ((c->context && !g_utf8_validate(c->context, -1, NULL)) ||
        (c->bitmap && !g_utf8_validate(c->bitmap, -1, NULL)))
        return client_fail(err, CLIENT_ERROR_USAGE, "pull: the name is not UTF-8");
    return 0;
}

/* What is asked for has to make sense for the format. */
static int check_format(const struct cli_options *c, const struct pull_options *o, GError **err)
{
    bool qcow2 = destination_choose_format(&o->to) == DESTINATION_QCOW2;

    if (c->base && !qcow2)
        return client_fail(err, CLIENT_ERROR_USAGE, "pull: --base is for a qcow2 image");
    if (c->base && !o->context)
        return client_fail(
            err, CLIENT_ERROR_USAGE,
            "pull: --base goes with --bitmap or --context: a copy of all needs none");
    if (c->base_format && !c->base)
        return client_fail(err, CLIENT_ERROR_USAGE, "pull: --base-format goes with --base");
    if (qcow2 && o->context && !c->base)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "pull: an image of changes alone reads as zeroes where nothing has "
                           "changed: give the one before it, by --base FILE");
    return option_check_target("pull", &o->to, err);
}

static int read_options(const struct cli_options *c, struct pull_options *o, GError **err)
{
    struct destination_options *to = &o->to;

    if (!c->output)
        return client_fail(err, CLIENT_ERROR_USAGE, "pull: where to? -o TARGET");
    if (check_context(c, err) < 0)
        return -1;
    to->target = c->output;
    to->base = c->base;
    to->force = c->force;
    to->detect_zeroes = c->detect_zeroes;
    o->discard = c->discard;
    o->resume = c->resume;
    o->retry = RETRY;
    if (option_format("format", c->format, &to->format, err) < 0 ||
        option_format("base-format", c->base_format, &to->base_format, err) < 0 ||
        option_compress(c->compress, &to->compress, &to->compression, &to->level, err) < 0 ||
        option_number("connections", c->connections, 1, 16, &o->connections, err) < 0 ||
        option_number("retry", c->retry, 0, 86400, &o->retry, err) < 0 ||
        option_rate("rate-limit", c->rate_limit, &o->rate, err) < 0)
        return -1;
    return check_format(c, o, err);
}

/* The context of what is dirty; NULL: all that is allocated is copied. */
static char *choose_context(const struct cli_options *c)
{
    if (c->bitmap)
        return g_strconcat("qemu:dirty-bitmap:", c->bitmap, NULL);
    return g_strcmp0(c->context, "base:allocation") == 0 ? NULL : g_strdup(c->context);
}

/* ---- what was done ---- */

static void print_json(struct client *c, const struct pull_options *o, const struct pull_result *r)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_add_string(b, "name", o->name);
    json_add_string(b, "format", r->format == DESTINATION_QCOW2 ? "qcow2" : "raw");
    json_add_size(b, "size", r->size);
    json_add_size(b, "image-size", destination_image_size(r->format, r->size));
    json_add_size(b, "read", r->read);
    json_add_size(b, "written", r->written);
    json_add_size(b, "zero", r->zero);
    json_add_size(b, "resumed", r->resumed);
    json_builder_set_member_name(b, "seconds");
    json_builder_add_double_value(b, round(r->seconds * 1000) / 1000);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

static void print_text(struct client *c, const struct pull_options *o, const struct pull_result *r)
{
    char read[16], size[16], rate[16], resumed[16];
    double per_second = r->seconds > 0 ? (double)r->read / r->seconds : 0;
    g_autoptr(GString) line = g_string_new(NULL);

    g_string_append_printf(line, "copied %s of %s in %.1f s, %s/s",
                           size_format_digits(r->read, 1, read),
                           size_format_digits(r->size, 1, size), r->seconds,
                           size_format_digits((uint64_t)per_second, 0, rate));
    if (r->resumed > 0)
        g_string_append_printf(line, ", from %s on", size_format_digits(r->resumed, 1, resumed));
    g_string_append_c(line, '\n');
    client_append_image_size(line, r->size, destination_image_size(r->format, r->size));
    if (r->kind == DESTINATION_STREAM) /* standard output is the stream */
        fputs(line->str, stderr);
    else
        g_string_append(c->out, line->str);
}

/* ---- the command ---- */

static int pull(struct client *c, const struct pull_options *o, GError **err)
{
    struct progress *p = progress_new(c->json);
    struct pull_result r;
    int result = pull_run(o, p, &r, err);

    progress_free(p);
    if (result < 0)
        return -1;
    if (c->json)
        print_json(c, o, &r);
    else
        print_text(c, o, &r);
    return 0;
}

/* What is copied, as progress calls it: of a URI the export's name, where it has one. */
static char *name_of(const char *source)
{
    g_autofree char *path = NULL;

    if (destination_is_uri(source) &&
        g_uri_split(source, G_URI_FLAGS_NONE, NULL, NULL, NULL, NULL, &path, NULL, NULL, NULL) &&
        path[0] == '/' && path[1] != '\0')
        return g_strdup(path + 1);
    return g_strdup(source);
}

static int run_pull(struct client *c, const void *options, char **args, GError **err)
{
    const struct cli_options *cli = options;
    g_autofree char *context = choose_context(cli);
    g_autofree char *name = name_of(args[0]);
    g_autofree char *uri = NULL;
    struct pull_options o = {.name = name, .context = context};
    bool is_uri = destination_is_uri(args[0]);
    GError *error = NULL;

    if (read_options(cli, &o, err) < 0)
        return -1;
    if (c->json && is_stream(cli))
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "pull: --json or -o -: standard output is one of them");
    uri = is_uri ? g_strdup(args[0]) : find_export(c, args[0], err);
    if (!uri || nbd_uri_check(uri, err) < 0)
        return -1;
    if (destination_is_uri(cli->output) && nbd_uri_check(cli->output, err) < 0)
        return -1;
    if (cli->force && repo_guard_target(NULL, cli->output, err) < 0)
        return -1;
    o.uri = uri;
    if (pull(c, &o, &error) == 0)
        return 0;
    if (!is_uri)
        find_export_explain(c, args[0], &error);
    g_propagate_prefixed_error(err, error, "pull %s to %s: ", args[0], cli->output);
    return -1;
}

#define FIELD(name) offsetof(struct cli_options, name)
static const struct option pull_options[] = {
    {"output", 'o', OPTION_TEXT, "TARGET", FIELD(output),
     "a file, a block device, an NBD URI, or - (standard output)"},
    {"bitmap", 'b', OPTION_TEXT, "NAME", FIELD(bitmap),
     "copy only what is dirty: context qemu:dirty-bitmap:NAME"},
    {"context", 0, OPTION_TEXT, "NAME", FIELD(context), "the same, of any NBD meta context"},
    {"base", 0, OPTION_TEXT, "FILE", FIELD(base), "the backing file of a qcow2 image of changes"},
    {"base-format", 0, OPTION_TEXT, "FORMAT", FIELD(base_format), "what the base is: raw or qcow2"},
    {"format", 0, OPTION_TEXT, "FORMAT", FIELD(format),
     "raw or qcow2 (default: by the name of TARGET)"},
    {"compress", 0, OPTION_OPTIONAL, "METHOD", FIELD(compress),
     "compress a qcow2 image: zstd, zlib, zstd:LEVEL..."},
    {"connections", 0, OPTION_TEXT, "N", FIELD(connections), "most NBD connections (default: 4)"},
    {"rate-limit", 0, OPTION_TEXT, "RATE", FIELD(rate_limit), "most bytes read a second: 10M"},
    {"retry", 0, OPTION_TEXT, "SECONDS", FIELD(retry),
     "how long a server that has gone may stay away (30)"},
    {"detect-zeroes", 0, OPTION_FLAG, NULL, FIELD(detect_zeroes),
     "make holes of data that are nothing but zeroes"},
    {"discard", 0, OPTION_FLAG, NULL, FIELD(discard),
     "discard at the source what is safe in TARGET"},
    {"resume", 0, OPTION_FLAG, NULL, FIELD(resume),
     "go on where a run was cut; keep what there is"},
    {"force", 0, OPTION_FLAG, NULL, FIELD(force), "overwrite data, replace a file"},
    {NULL},
};
#undef FIELD

const struct command cmd_pull = {
    .name = "pull",
    .synopsis = "URI|DISK -o TARGET [--bitmap NAME | --context NAME] [--base FILE]",
    .summary = "copy what is allocated, or dirty, from any NBD server",
    .help = "TARGET is a raw file, a qcow2 image (its name ends in .qcow2), a block device, an\n"
            "NBD URI, or - (a qcow2 stream; --format raw: the disk). With --bitmap or --context\n"
            "a raw file, a device or an export gets the changes in place; a qcow2 image is made\n"
            "new, on --base. DISK, or any other export's name, is found through the control\n"
            "socket; for an NBD URI no control socket is needed.\n",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .options = pull_options,
    .options_size = sizeof(struct cli_options),
    .run = run_pull,
};
