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

/* The number of the disk that a checkpoint means by the name; 0: the record does not say it. */
static int64_t number_in(JsonArray *ids, guint i)
{
    JsonNode *node = ids && i < json_array_get_length(ids) ? json_array_get_element(ids, i) : NULL;

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
        return 0;
    return json_node_get_int(node);
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

/* NULL: it has no numbers. */
static JsonArray *read_ids(JsonNode *root)
{
    return json_member_array(json_node_get_object(root), "disk-ids");
}

/* ---- which disks ---- */

/* Of one disk, or of all that the folder does not know. */
struct wanted {
    const char *name;
    int64_t id;          /* of the one; 0: all that are not known */
    const GArray *known; /* struct catalogue_disk */
};

static bool is_known(const struct wanted *w, int64_t id)
{
    for (guint i = 0; i < w->known->len; i++)
        if (g_array_index(w->known, struct catalogue_disk, i).id == id)
            return true;
    return false;
}

/* A number says more than a name: another disk may have had the name meanwhile. */
static bool is_wanted(const struct wanted *w, JsonArray *disks, JsonArray *ids, guint i)
{
    int64_t id = number_in(ids, i);

    if (w->id != 0 && id != 0)
        return id == w->id;
    return is_named(disks, i, w->name) && (id == 0 || !is_known(w, id));
}

static bool has_wanted(const struct wanted *w, JsonArray *disks, JsonArray *ids)
{
    for (guint i = 0; i < json_array_get_length(disks); i++)
        if (is_wanted(w, disks, ids, i))
            return true;
    return false;
}

/* ---- renaming and removing ---- */

/* Numbers are in the same order as names. */
static void remove_wanted(const struct wanted *w, JsonArray *disks, JsonArray *ids)
{
    for (guint i = json_array_get_length(disks); i > 0; i--) {
        if (!is_wanted(w, disks, ids, i - 1))
            continue;
        json_array_remove_element(disks, i - 1);
        if (ids && i <= json_array_get_length(ids))
            json_array_remove_element(ids, i - 1);
    }
}

static bool has_other(const struct wanted *w, JsonArray *disks, JsonArray *ids, const char *name)
{
    for (guint i = 0; i < json_array_get_length(disks); i++)
        if (is_named(disks, i, name) && !is_wanted(w, disks, ids, i))
            return true;
    return false;
}

/* Each name stands once in the list. Where both do, the disk that has the new name is about to get
 * another one, and stays in the list. */
static void rename_wanted(const struct wanted *w, JsonArray *disks, JsonArray *ids, const char *to)
{
    if (has_other(w, disks, ids, to))
        remove_wanted(w, disks, ids);
    for (guint i = 0; i < json_array_get_length(disks); i++) {
        JsonNode *name = name_in(disks, i);

        if (name && is_wanted(w, disks, ids, i))
            json_node_set_string(name, to);
    }
}

/* What changes in a record: its new text; NULL: it stays as it is, or, *gone, is removed. */
typedef char *change_text(const struct catalogue_record *r, const struct wanted *w, const char *to,
                          bool *gone);

static char *renamed(const struct catalogue_record *r, const struct wanted *w, const char *to,
                     bool *gone)
{
    g_autoptr(JsonNode) root = NULL;
    JsonArray *disks = read_disks(r->text, &root), *ids = disks ? read_ids(root) : NULL;

    if (!disks || !has_wanted(w, disks, ids))
        return NULL;
    rename_wanted(w, disks, ids, to);
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

static char *without(const struct catalogue_record *r, const struct wanted *w, const char *to,
                     bool *gone)
{
    g_autoptr(JsonNode) root = NULL;
    JsonArray *disks = read_disks(r->text, &root), *ids = disks ? read_ids(root) : NULL;

    if (!disks || !has_wanted(w, disks, ids))
        return NULL;
    remove_wanted(w, disks, ids);
    *gone = json_array_get_length(disks) == 0;
    if (strcmp(r->kind, "session") == 0)
        abort_session(json_node_get_object(root), w->name);
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

static int change_records(struct catalogue *c, GArray *rows, change_text *change,
                          const struct wanted *w, const char *to, GError **err)
{
    for (guint i = 0; i < rows->len; i++) {
        struct catalogue_record *r = &g_array_index(rows, struct catalogue_record, i);
        bool gone = false;
        char *text = change(r, w, to, &gone);

        if (change_record(c, r, text, gone, err) < 0)
            return -1;
    }
    return 0;
}

static int change_all(struct catalogue *c, change_text *change, int64_t id, const char *name,
                      const char *to, GError **err)
{
    g_autoptr(GArray) rows = catalogue_records(c, NULL, err);
    g_autoptr(GArray) known = rows ? catalogue_disks(c, NULL, err) : NULL;
    const struct wanted w = {.name = name, .id = id, .known = known};

    return known ? change_records(c, rows, change, &w, to, err) : -1;
}

int record_disks_rename(struct catalogue *c, const struct catalogue_disk *d, const char *to,
                        GError **err)
{
    return strcmp(d->name, to) == 0 ? 0 : change_all(c, renamed, d->id, d->name, to, err);
}

int record_disks_forget(struct catalogue *c, const struct catalogue_disk *d, GError **err)
{
    return change_all(c, without, d->id, d->name, NULL, err);
}

int record_disks_forget_unknown(struct catalogue *c, const char *name, GError **err)
{
    return change_all(c, without, 0, name, NULL, err);
}
