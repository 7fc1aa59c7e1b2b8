/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl map: what is dirty or allocated, as a picture, a page, or JSON. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/find-export.h"
#include "client/map/map-html.h"
#include "client/map/map-text.h"
#include "client/map/nbd-extents.h"
#include "common/json/write.h"

#include <inttypes.h>
#include <string.h>

/* Rows of the picture in a terminal, and the size of a page's, in cells. */
#define TEXT_ROWS    20
#define HTML_COLUMNS 128
#define HTML_ROWS    64

/* JSON is printed while it grows, each time that it has reached this many bytes. */
#define JSON_FLUSH 65536

struct map_options {
    char *context, *bitmap, *html;
    gboolean summary, ascii;
};

/* ---- output ---- */

/* Where extents go. */
struct output {
    struct client *c;
    const struct map_options *options;
    map *map;
    bool list;  /* print each extent as JSON */
    bool first; /* none has been printed yet */
};

static void append_json_extent(struct output *o, uint64_t offset, uint64_t length, uint32_t flags)
{
    const char *word = map_word(o->map->kind, flags);

    g_string_append_printf(o->c->out,
                           "%s{\"start\":%" PRIu64 ",\"length\":%" PRIu64 ",\"flags\":%" PRIu32,
                           o->first ? "" : ",", offset, length, flags);
    if (word)
        g_string_append_printf(o->c->out, ",\"type\":\"%s\"", word);
    g_string_append_c(o->c->out, '}');
    o->first = false;
}

static int take_extent(void *opaque, uint64_t offset, uint64_t length, uint32_t flags, GError **err)
{
    struct output *o = opaque;

    map_add(o->map, offset, length, flags);
    if (!o->list)
        return 0;
    append_json_extent(o, offset, length, flags);
    return o->c->out->len < JSON_FLUSH ? 0 : client_flush(o->c, err);
}

/* "NAME":"TEXT" */
static void append_json_string(GString *out, const char *name, const char *text)
{
    g_autoptr(JsonNode) node = json_node_init_string(json_node_alloc(), text);
    g_autofree char *quoted = json_write(node, false);

    g_string_append_printf(out, "\"%s\":%s", name, quoted);
}

static void append_json_totals(const map *m, GString *out)
{
    g_string_append(out, "\"totals\":[");
    for (unsigned i = 0; i <= m->n_states; i++) {
        const struct map_state *s = i < m->n_states ? &m->states[i] : &m->others;
        const char *word = map_word(m->kind, s->flags);

        if (s->extents == 0)
            continue;
        g_string_append(out, i > 0 ? ",{" : "{");
        if (s == &m->others) {
            g_string_append(out, "\"type\":\"others\"");
        } else {
            g_string_append_printf(out, "\"flags\":%" PRIu32, s->flags);
            if (word)
                g_string_append_printf(out, ",\"type\":\"%s\"", word);
        }
        g_string_append_printf(out, ",\"bytes\":%" PRIu64 ",\"extents\":%" PRIu64 "}", s->bytes,
                               s->extents);
    }
    g_string_append_c(out, ']');
}

/* Extents are printed as they come, so that memory does not grow with their number. */
static int print_json(struct output *o, nbd_extents *n, GError **err)
{
    GString *out = o->c->out;

    g_string_append_c(out, '{');
    append_json_string(out, "name", o->map->title);
    g_string_append_c(out, ',');
    append_json_string(out, "context", o->map->context);
    g_string_append_printf(out, ",\"size\":%" PRIu64 ",", o->map->size);
    if (o->list)
        g_string_append(out, "\"extents\":[");
    if (nbd_extents_read(n, take_extent, o, err) < 0)
        return -1;
    g_string_append(out, o->list ? "]," : "");
    append_json_totals(o->map, out);
    g_string_append(out, "}\n");
    return 0;
}

static int write_html(struct client *c, const map *m, const char *file, GError **err)
{
    g_autoptr(GString) page = NULL;

    if (strcmp(file, "-") == 0) {
        map_print_html(m, c->out);
        return 0;
    }
    page = g_string_new(NULL);
    map_print_html(m, page);
    return g_file_set_contents(file, page->str, (gssize)page->len, err) ? 0 : -1;
}

static int print_picture(struct output *o, nbd_extents *n, GError **err)
{
    const struct map_options *options = o->options;
    struct client *c = o->c;

    if (nbd_extents_read(n, take_extent, o, err) < 0)
        return -1;
    if (options->html)
        return write_html(c, o->map, options->html, err);
    map_print_title(o->map, &c->terminal, c->out);
    g_string_append_c(c->out, '\n');
    if (!options->summary) {
        map_print_picture(o->map, &c->terminal, options->ascii, c->out);
        g_string_append_c(c->out, '\n');
    }
    map_print_totals(o->map, c->out);
    return 0;
}

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

/* Read the map of `uri` and print it as the options say; `title` names it to people. */
static int run(struct client *c, const struct map_options *options, const char *title,
               const char *uri, GError **err)
{
    g_autofree char *context = choose_context(options);
    g_autoptr(nbd_extents) n = nbd_extents_open(uri, context, err);
    bool html = options->html != NULL;
    g_autoptr(map) m = NULL;
    struct output o = {
        .c = c, .options = options, .first = true, .list = c->json && !options->summary};

    if (!n)
        return -1;
    m = map_new(title, context, nbd_extents_size(n),
                html ? HTML_COLUMNS : map_columns_for(c->terminal.width),
                html ? HTML_ROWS : TEXT_ROWS);
    o.map = m;
    return c->json ? print_json(&o, n, err) : print_picture(&o, n, err);
}

static int run_map(struct client *c, const void *options, char **args, GError **err)
{
    const char *target = args[0];
    g_autofree char *uri = NULL;
    GError *error = NULL;

    if (check_options(options, c->json, err) < 0)
        return -1;
    if (strstr(target, "://")) {
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
