/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/qmp/backups.h"
#include "client/base/error.h"
#include "client/qmp/inventory.h"
#include "common/json/value.h"

#include <string.h>

/* Microseconds since 1970 of a time as RFC 3339 writes it; 0 if it is none. */
static int64_t read_time(JsonObject *o)
{
    const char *text = json_member_string(o, "time");
    g_autoptr(GDateTime) time = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;

    return time ? g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time)
                : 0;
}

/* The objects of the array `disks`, which may be left out. NULL and *err if it is anything else. */
static JsonArray *disks_of(JsonObject *o, const char *command, GError **err)
{
    JsonNode *node = json_object_get_member(o, "disks");

    return node ? inventory_list(node, command, err) : NULL;
}

/* ---- checkpoints ---- */

static void clear_checkpoint(void *data)
{
    struct checkpoint_entry *c = data;

    g_array_unref(c->parts);
}

static int read_parts(struct checkpoint_entry *c, JsonObject *o, const char *command, GError **err)
{
    GError *error = NULL;
    JsonArray *list = disks_of(o, command, &error);

    if (error) {
        g_propagate_error(err, error);
        return -1;
    }
    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *d = json_array_get_object_element(list, i);
        struct checkpoint_part part = {
            .disk = inventory_required(d, "disk", command, err),
            .bitmap = json_member_string(d, "bitmap"),
            .reason = json_member_string(d, "reason"),
            .granularity = json_member_size(d, "granularity"),
            .dirty = json_member_size(d, "dirty-bytes"),
            .valid = json_member_bool(d, "valid"),
        };

        if (!part.disk)
            return -1;
        g_array_append_val(c->parts, part);
    }
    return 0;
}

static int read_checkpoint(GArray *all, JsonNode *node, const char *command, GError **err)
{
    JsonObject *o = json_node_get_object(node);
    struct checkpoint_entry c = {
        .name = inventory_required(o, "name", command, err),
        .description = json_member_string(o, "description"),
        .parent = json_member_string(o, "parent"),
        .time = read_time(o),
        .node = node,
    };

    if (!c.name)
        return -1;
    c.parts = g_array_new(FALSE, FALSE, sizeof(struct checkpoint_part));
    g_array_append_val(all, c);
    return read_parts(&c, o, command, err);
}

const struct checkpoint_entry *checkpoints_find(const GArray *checkpoints, const char *name,
                                                GError **err)
{
    for (guint i = 0; i < checkpoints->len; i++) {
        const struct checkpoint_entry *c = &g_array_index(checkpoints, struct checkpoint_entry, i);

        if (strcmp(c->name, name) == 0)
            return c;
    }
    client_fail(err, CLIENT_ERROR_FAILED, "checkpoint %s: there is no such checkpoint", name);
    return NULL;
}

/* ---- sessions ---- */

static void clear_session(void *data)
{
    struct session_entry *s = data;

    g_array_unref(s->disks);
}

static int read_session_disks(GArray *disks, JsonArray *list, const char *command, GError **err)
{
    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonObject *o = json_array_get_object_element(list, i);
        struct session_disk d = {
            .disk = inventory_required(o, "disk", command, err),
            .export = json_member_string(o, "export"),
            .uri = json_member_string(o, "uri"),
            .context = json_member_string(o, "context"),
            .mode = json_member_string(o, "mode"),
            .reason = json_member_string(o, "reason"),
            .dirty = json_member_size(o, "dirty-bytes"),
            .size = json_member_size(o, "size"),
            .scratch = json_member_size(o, "scratch-bytes"),
            .clients = json_member_size(o, "clients"),
            .quiesce_error = json_member_string(o, "quiesce-error"),
        };

        if (!d.disk)
            return -1;
        g_array_append_val(disks, d);
    }
    return 0;
}

static int read_session(GArray *all, JsonNode *node, const char *command, GError **err)
{
    JsonObject *o = json_node_get_object(node);
    struct session_entry s = {
        .id = inventory_required(o, "id", command, err),
        .state = json_member_string(o, "state"),
        .reason = json_member_string(o, "reason"),
        .since = json_member_string(o, "since"),
        .checkpoint = json_member_string(o, "checkpoint"),
        .quiesce_error = json_member_string(o, "quiesce-error"),
        .time = read_time(o),
        .lease = json_member_size(o, "lease"),
        .lease_left = json_member_size(o, "lease-left"),
        .scratch = json_member_size(o, "scratch-used"),
        .resumed = json_member_bool(o, "resumed"),
        .has_lease_left = json_object_has_member(o, "lease-left"),
    };
    GError *error = NULL;
    JsonArray *list = s.id ? disks_of(o, command, &error) : NULL;

    if (!s.id)
        return -1;
    if (error) {
        g_propagate_error(err, error);
        return -1;
    }
    s.active = g_strcmp0(s.state, "active") == 0;
    s.disks = g_array_new(FALSE, FALSE, sizeof(struct session_disk));
    g_array_append_val(all, s);
    return list ? read_session_disks(s.disks, list, command, err) : 0;
}

GArray *session_disks_read(JsonNode *reply, GError **err)
{
    static const char command[] = "backup-begin";
    JsonArray *list = inventory_list(reply, command, err);
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct session_disk));

    if (!list || read_session_disks(disks, list, command, err) < 0)
        return NULL;
    return g_steal_pointer(&disks);
}

/* ---- queries ---- */

/* Run a query, and give each object of its list to `read`, which adds an element to `all`. */
static int query(struct qmp *q, GArray *all, const char *command, JsonNode **reply,
                 int (*read)(GArray *, JsonNode *, const char *, GError **), GError **err)
{
    JsonArray *list;

    *reply = qmp_command(q, command, NULL, err);
    list = *reply ? inventory_list(*reply, command, err) : NULL;
    if (!list)
        return -1;
    for (guint i = 0; i < json_array_get_length(list); i++) {
        if (read(all, json_array_get_element(list, i), command, err) < 0)
            return -1;
    }
    return 0;
}

GArray *checkpoints_get(struct qmp *q, JsonNode **reply, GError **err)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct checkpoint_entry));

    g_array_set_clear_func(all, clear_checkpoint);
    if (query(q, all, "query-checkpoints", reply, read_checkpoint, err) < 0)
        return NULL;
    return g_steal_pointer(&all);
}

GArray *sessions_get(struct qmp *q, JsonNode **reply, GError **err)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct session_entry));

    g_array_set_clear_func(all, clear_session);
    if (query(q, all, "query-backups", reply, read_session, err) < 0)
        return NULL;
    return g_steal_pointer(&all);
}
