/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What fleecectl reads from others: a server's JSON (json_check, json_read), KEY=VALUE words
 * (qmp_args_parse), NBD URIs to which an export's name is added (nbd_uri_with_export), and a
 * server's extents, drawn as a picture (map_*).
 *
 * Input: a byte that chooses one of these, then text or numbers.
 */
#include "client/map/map-html.h"
#include "client/map/map-text.h"
#include "client/map/nbd-uri.h"
#include "client/qmp/qmp-args.h"
#include "client/qmp/qmp.h"
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"
#include "fuzz/fuzz.h"

#include <string.h>

const char fuzz_name[] = "client";

/* ---- JSON ---- */

/* A value that is written and read again is the same. */
static void check_round_trip(JsonNode *node)
{
    g_autofree char *text = json_write(node, false);
    g_autoptr(GError) err = NULL;
    g_autoptr(JsonNode) again = json_read(text, strlen(text), &qmp_limits, &err);

    CHECK(again);
    g_autofree char *text_again = json_write(again, false);
    CHECK(strcmp(text, text_again) == 0);
}

static void check_json(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *copy = g_memdup2(data, size);
    g_autoptr(JsonNode) node = json_read(size > 0 ? copy : "", size, &qmp_limits, &err);

    CHECK((node == NULL) == (err != NULL));
    if (!node)
        return;
    CHECK(json_check(copy, size, &qmp_limits, NULL) == 0);
    check_round_trip(node);
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return;
    JsonObject *o = json_node_get_object(node);
    g_autoptr(GList) names = json_object_get_members(o);
    for (GList *i = names; i; i = i->next) {
        const char *string = json_member_string(o, i->data);
        CHECK(!string || g_utf8_validate(string, -1, NULL));
        json_member_size(o, i->data);
        json_member_bool(o, i->data);
        CHECK(json_member_object(o, i->data) == NULL || json_member_array(o, i->data) == NULL);
    }
}

/* ---- words ---- */

/* The value at a.b.c; NULL: none. */
static JsonNode *lookup(JsonObject *o, const char *key)
{
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    JsonNode *node = NULL;

    for (char **part = parts; *part; part++) {
        node = o ? json_object_get_member(o, *part) : NULL;
        o = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    }
    return node;
}

/* Every word is found again. A value that does not look like JSON is found as it was written. */
static void check_words(char *text)
{
    g_auto(GStrv) words = g_strsplit(text, "\n", 64);
    g_autoptr(GError) err = NULL;
    g_autoptr(JsonObject) arguments = qmp_args_parse(words, NULL, &err);

    CHECK((arguments == NULL) == (err != NULL));
    for (char **word = words; arguments && *word; word++) {
        const char *equals = strchr(*word, '=');
        CHECK(equals && equals > *word);
        g_autofree char *key = g_strndup(*word, (gsize)(equals - *word));
        JsonNode *value = lookup(arguments, key);
        CHECK(value);
        if (g_ascii_isalpha(equals[1]) && strcmp(equals + 1, "true") != 0 &&
            strcmp(equals + 1, "false") != 0)
            CHECK(strcmp(json_node_get_string(value), equals + 1) == 0);
    }
}

/* ---- URIs ---- */

/* The first line is the URI, the rest is the name. In the result, the name is the path, and the text
 * before and behind the path is unchanged. */
static void check_uri(char *text)
{
    char *line = strchr(text, '\n');
    char *name = line ? line + 1 : text + strlen(text);

    if (line)
        *line = '\0';
    const char *query = strchr(text, '?');
    g_autofree char *uri = nbd_uri_with_export(text, name);
    const char *uri_query = strchr(uri, '?');
    CHECK(!query ? uri_query == NULL : g_str_has_suffix(uri, query));
    size_t head = query ? strlen(uri) - strlen(query) : strlen(uri);
    g_autofree char *escaped = g_strndup(uri, head);
    const char *slash = strrchr(escaped, '/');
    CHECK(slash && strncmp(uri, text, (size_t)(slash - escaped)) == 0);
    g_autofree char *unescaped = g_uri_unescape_string(slash + 1, NULL);
    /* Bytes that are not UTF-8 are escaped like any other. */
    CHECK(unescaped && strcmp(unescaped, name) == 0);
}

/* ---- the map ---- */

static void check_picture(const map *m, const uint64_t roles[MAP_ROLES])
{
    uint64_t cells[MAP_ROLES] = {0}, whole = 0;

    for (size_t i = 0; i < m->n_cells; i++) {
        uint64_t in_cell = 0;
        for (unsigned role = 0; role < MAP_ROLES; role++) {
            cells[role] += m->cells[i].bytes[role];
            in_cell += m->cells[i].bytes[role];
        }
        CHECK(in_cell <= map_cell_size(m, i));
        CHECK(m->cells[i].bytes[MAP_SET] == 0 || map_level(m, i) >= MAP_LOW);
        CHECK((m->cells[i].bytes[MAP_SET] == map_cell_size(m, i)) == (map_level(m, i) == MAP_FULL));
        whole += map_cell_size(m, i);
    }
    CHECK(whole == m->size);
    CHECK(memcmp(cells, roles, sizeof cells) == 0);
}

static void check_prints(const map *m)
{
    static const struct terminal terminal = {0};
    g_autoptr(GString) out = g_string_new(NULL);

    map_print_title(m, &terminal, out);
    map_print_picture(m, &terminal, true, out);
    map_print_picture(m, &terminal, false, out);
    map_print_totals(m, out);
    map_print_html(m, out);
    CHECK(g_utf8_validate(out->str, -1, NULL));
}

static void check_map(struct supply *s)
{
    static const char *const contexts[] = {"base:allocation", "qemu:dirty-bitmap:b",
                                           "qemu:allocation-depth", "x:y"};
    const char *context = contexts[take_u8(s) & 3];
    unsigned columns = 16 + take_u8(s), rows = 1 + take_u8(s) % 64;
    uint64_t size = take_u64(s) >> 1, offset = 0, roles[MAP_ROLES] = {0};
    g_autoptr(map) m = map_new("a disk", context, size, columns, rows);

    CHECK(m->columns <= columns && m->rows <= rows);
    while (supply_left(s) > 0 && offset < size) {
        uint8_t shape = take_u8(s);
        uint64_t length = shape & 128 ? size / (1 + take_u8(s)) : take_u16(s);
        uint32_t flags = shape & 64 ? take_u32(s) : shape & 3u;
        length = MIN(length, size - offset);
        if (length == 0)
            continue;
        map_add(m, offset, length, flags);
        roles[map_role(m->kind, flags)] += length;
        offset += length;
    }
    check_picture(m, roles);
    check_prints(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);
    uint8_t which = take_u8(&s) & 3;

    if (which == 0) {
        check_json(s.at, supply_left(&s));
        return 0;
    }
    if (which == 3) {
        check_map(&s);
        return 0;
    }
    g_autofree char *text = take_rest(&s);
    if (which == 1)
        check_words(text);
    else
        check_uri(text);
    return 0;
}
