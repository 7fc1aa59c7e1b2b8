/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/state/surveyed-record.h"

#include "common/json/read.h"
#include "common/json/value.h"

#include <string.h>

const struct json_limits surveyed_record_limits = {
    .bytes = CATALOGUE_MAX_RECORD, .tokens = CATALOGUE_MAX_RECORD, .depth = 16};

static const char *checkpoint_state(JsonObject *o)
{
    if (json_member_bool(o, "deleted"))
        return "deleted";
    return json_member_string(o, "session") ? "pending" : "kept";
}

static const char *session_state(JsonObject *o)
{
    static const char *const states[] = {"active", "committed", "aborted"};
    const char *said = json_member_string(o, "state");

    for (size_t i = 0; said && i < G_N_ELEMENTS(states); i++)
        if (strcmp(said, states[i]) == 0)
            return states[i];
    return "unreadable";
}

/* A checkpoint names its disks; those of a session are objects. */
static const char *disk_name(JsonNode *node)
{
    if (JSON_NODE_HOLDS_OBJECT(node))
        return json_member_string(json_node_get_object(node), "disk");
    if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING)
        return json_node_get_string(node);
    return NULL;
}

static void take_object(struct surveyed_record *r, JsonObject *o)
{
    JsonArray *disks = json_member_array(o, "disks");

    r->state = strcmp(r->kind, "session") == 0 ? session_state(o) : checkpoint_state(o);
    r->time_usec = (int64_t)json_member_size(o, "time-usec");
    r->reason = g_strdup(json_member_string(o, "reason"));
    for (guint i = 0; disks && i < json_array_get_length(disks); i++) {
        const char *name = disk_name(json_array_get_element(disks, i));

        if (name)
            g_ptr_array_add(r->disks, g_strdup(name));
    }
}

struct surveyed_record *surveyed_record_new(const struct catalogue_record *row)
{
    struct surveyed_record *r = g_new0(struct surveyed_record, 1);
    g_autoptr(JsonNode) root =
        json_read(row->text, strlen(row->text), &surveyed_record_limits, NULL);

    r->kind = g_strdup(row->kind);
    r->name = g_strdup(row->name);
    r->state = "unreadable";
    r->disks = g_ptr_array_new_with_free_func(g_free);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
        take_object(r, json_node_get_object(root));
    return r;
}

void surveyed_record_free(struct surveyed_record *r)
{
    g_free(r->kind);
    g_free(r->name);
    g_free(r->reason);
    g_ptr_array_unref(r->disks);
    g_free(r);
}
