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

/* A checkpoint's disks are names, a session's are objects with a member `disk`. */
static bool rename_one(JsonNode *node, const char *from, const char *to)
{
    JsonNode *name = node;

    if (JSON_NODE_HOLDS_OBJECT(node))
        name = json_object_get_member(json_node_get_object(node), "disk");
    if (!name || !is_text(name, from))
        return false;
    json_node_set_string(name, to);
    return true;
}

/* The text with the other name; NULL: it stays as it is. */
static char *renamed(const char *text, const char *from, const char *to)
{
    g_autoptr(JsonNode) root = NULL;
    JsonArray *disks = NULL;
    bool any = false;

    if (json_check(text, strlen(text), &surveyed_record_limits, NULL) == 0)
        root = json_from_string(text, NULL);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
        disks = json_member_array(json_node_get_object(root), "disks");
    for (guint i = 0; disks && i < json_array_get_length(disks); i++)
        any |= rename_one(json_array_get_element(disks, i), from, to);
    return any ? json_write(root, false) : NULL;
}

int record_disks_rename(struct catalogue *c, const char *from, const char *to, GError **err)
{
    g_autoptr(GArray) rows = catalogue_records(c, NULL, err);

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
