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

/* The disks of a record; NULL: it cannot be read. */
static JsonArray *read_disks(const char *text, JsonNode **root)
{
    *root = NULL;
    if (json_check(text, strlen(text), &surveyed_record_limits, NULL) == 0)
        *root = json_from_string(text, NULL);
    if (!*root || !JSON_NODE_HOLDS_OBJECT(*root))
        return NULL;
    return json_member_array(json_node_get_object(*root), "disks");
}

/* A checkpoint may have the numbers of its disks, too, in the same order. */
static void remove_from(JsonObject *record, JsonArray *disks, const char *name)
{
    JsonArray *ids = json_member_array(record, "disk-ids");

    for (guint i = json_array_get_length(disks); i > 0; i--) {
        if (!is_named(disks, i - 1, name))
            continue;
        json_array_remove_element(disks, i - 1);
        if (ids && i <= json_array_get_length(ids))
            json_array_remove_element(ids, i - 1);
    }
}

/* Each name stands once in the list. Where both do, the disk that has the new name is about to get
 * another one, and stays in the list. */
static void rename_in(JsonObject *record, JsonArray *disks, const char *from, const char *to)
{
    if (has_disk(disks, to))
        remove_from(record, disks, from);
    for (guint i = 0; i < json_array_get_length(disks); i++)
        if (is_named(disks, i, from))
            json_node_set_string(name_in(disks, i), to);
}

/* What changes in a record: its new text; NULL: it stays as it is, or, *gone, is removed. */
typedef char *change_text(const struct catalogue_record *r, const char *from, const char *to,
                          bool *gone);

static char *renamed(const struct catalogue_record *r, const char *from, const char *to, bool *gone)
{
    g_autoptr(JsonNode) root = NULL;
    JsonArray *disks = read_disks(r->text, &root);

    if (!disks || !has_disk(disks, from))
        return NULL;
    rename_in(json_node_get_object(root), disks, from, to);
    return json_write(root, false);
}

/* A client that reads all of its disks cannot have this one any more. */
static void abort_session(JsonObject *o, const char *disk)
{
    g_autofree char *reason = g_strdup_printf("the state folder has forgotten disk %s", disk);
    const char *state = json_member_string(o, "state");

    if (!state || strcmp(state, "active") != 0)
        return;
    json_object_set_string_member(o, "state", "aborted");
    json_object_set_string_member(o, "reason", reason);
    json_object_set_int_member(o, "ended-usec", g_get_real_time());
}

static char *without(const struct catalogue_record *r, const char *disk, const char *to, bool *gone)
{
    g_autoptr(JsonNode) root = NULL;
    JsonArray *disks = read_disks(r->text, &root);

    if (!disks || !has_disk(disks, disk))
        return NULL;
    remove_from(json_node_get_object(root), disks, disk);
    *gone = json_array_get_length(disks) == 0;
    if (strcmp(r->kind, "session") == 0)
        abort_session(json_node_get_object(root), disk);
    return *gone ? NULL : json_write(root, false);
}

static int change_record(struct catalogue *c, struct catalogue_record *r, char *text, bool gone,
                         GError **err)
{
    if (gone)
        return catalogue_remove_record(c, r->id, err);
    if (!text)
        return 0;
    g_free(r->text);
    r->text = text;
    return catalogue_put_record(c, r, err);
}

static int change_all(struct catalogue *c, change_text *change, const char *from, const char *to,
                      GError **err)
{
    g_autoptr(GArray) rows = catalogue_records(c, NULL, err);

    if (!rows)
        return -1;
    for (guint i = 0; i < rows->len; i++) {
        struct catalogue_record *r = &g_array_index(rows, struct catalogue_record, i);
        bool gone = false;
        char *text = change(r, from, to, &gone);

        if (change_record(c, r, text, gone, err) < 0)
            return -1;
    }
    return 0;
}

int record_disks_rename(struct catalogue *c, const char *from, const char *to, GError **err)
{
    return strcmp(from, to) == 0 ? 0 : change_all(c, renamed, from, to, err);
}

int record_disks_forget(struct catalogue *c, const char *disk, GError **err)
{
    return change_all(c, without, disk, NULL, err);
}
