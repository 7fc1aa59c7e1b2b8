/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/state/record-disks.h"

#include "client/state/surveyed-record.h"
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"

#include <string.h>

static bool is_text(JsonNode *node, const char *text)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING &&
           strcmp(json_node_get_string(node), text) == 0;
}

/* The node that has the name. A checkpoint's disks are names, a session's are objects with a member
 * `disk`. NULL: there is none. */
static JsonNode *name_in(JsonArray *disks, guint i)
{
    JsonNode *node = json_array_get_element(disks, i);

    if (JSON_NODE_HOLDS_OBJECT(node))
        return json_object_get_member(json_node_get_object(node), "disk");
    return node;
}

static bool is_named(JsonArray *disks, guint i, const char *name)
{
    JsonNode *node = name_in(disks, i);

    return node && is_text(node, name);
}

static bool has_disk(JsonArray *disks, const char *name)
{
    for (guint i = 0; i < json_array_get_length(disks); i++)
        if (is_named(disks, i, name))
            return true;
    return false;
}

/* A disk that had the new name before is not in the folder any more: it leaves the list, in which
 * each name stands once. */
static void rename_in(JsonArray *disks, const char *from, const char *to)
{
    for (guint i = json_array_get_length(disks); i > 0; i--)
        if (is_named(disks, i - 1, to))
            json_array_remove_element(disks, i - 1);
    for (guint i = 0; i < json_array_get_length(disks); i++)
        if (is_named(disks, i, from))
            json_node_set_string(name_in(disks, i), to);
}

/* The text with the other name; NULL: it stays as it is. */
static char *renamed(const char *text, const char *from, const char *to)
{
    g_autoptr(JsonNode) root = NULL;
    JsonArray *disks = NULL;

    if (json_check(text, strlen(text), &surveyed_record_limits, NULL) == 0)
        root = json_from_string(text, NULL);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
        disks = json_member_array(json_node_get_object(root), "disks");
    if (!disks || !has_disk(disks, from))
        return NULL;
    rename_in(disks, from, to);
    return json_write(root, false);
}

int record_disks_rename(struct catalogue *c, const char *from, const char *to, GError **err)
{
    g_autoptr(GArray) rows = NULL;

    if (strcmp(from, to) == 0)
        return 0;
    rows = catalogue_records(c, NULL, err);
    if (!rows)
        return -1;
    for (guint i = 0; i < rows->len; i++) {
        struct catalogue_record *r = &g_array_index(rows, struct catalogue_record, i);
        char *text = renamed(r->text, from, to);

        if (!text)
            continue;
        g_free(r->text);
        r->text = text;
        if (catalogue_put_record(c, r, err) < 0)
            return -1;
    }
    return 0;
}
