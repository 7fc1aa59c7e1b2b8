/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/map-output.h"
#include "client/base/output-file.h"
#include "client/map/map-html.h"
#include "client/map/map-text.h"
#include "common/json/write.h"

#include <inttypes.h>
#include <string.h>

/* Rows of the picture in a terminal, and the size of a page's, in cells. */
#define TEXT_ROWS    20
#define HTML_COLUMNS 128
#define HTML_ROWS    64

/* JSON is printed while it grows, each time that it has reached this many bytes. */
#define JSON_FLUSH 65536

/* Where extents go. */
struct output {
    struct client *c;
    const struct map_output *what;
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
static int print_json(struct output *o, map_output_source tell, void *source, GError **err)
{
    GString *out = o->c->out;

    g_string_append_c(out, '{');
    append_json_string(out, "name", o->map->title);
    g_string_append_c(out, ',');
    append_json_string(out, "context", o->map->context);
    g_string_append_printf(out, ",\"size\":%" PRIu64 ",", o->map->size);
    if (o->list)
        g_string_append(out, "\"extents\":[");
    if (tell(source, take_extent, o, err) < 0)
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
    return output_file_write(file, page, err);
}

static int print_picture(struct output *o, map_output_source tell, void *source, GError **err)
{
    const struct map_output *what = o->what;
    struct client *c = o->c;

    if (tell(source, take_extent, o, err) < 0)
        return -1;
    if (what->html)
        return write_html(c, o->map, what->html, err);
    map_print_title(o->map, &c->terminal, c->out);
    g_string_append_c(c->out, '\n');
    if (!what->summary) {
        map_print_picture(o->map, &c->terminal, what->ascii, c->out);
        g_string_append_c(c->out, '\n');
    }
    map_print_totals(o->map, c->out);
    return 0;
}

int map_output(struct client *c, const struct map_output *what, map_output_source tell,
               void *source, GError **err)
{
    bool html = what->html != NULL;
    g_autoptr(map) m = map_new(what->title, what->context, what->size,
                               html ? HTML_COLUMNS : map_columns_for(c->terminal.width),
                               html ? HTML_ROWS : TEXT_ROWS);
    struct output o = {
        .c = c, .what = what, .map = m, .first = true, .list = c->json && !what->summary};

    return c->json ? print_json(&o, tell, source, err) : print_picture(&o, tell, source, err);
}
