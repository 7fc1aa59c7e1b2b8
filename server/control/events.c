/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/control-private.h"

static JsonObject *view_broken_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "name", e->name);
    json_object_set_string_member(o, "disk", e->disk);
    json_object_set_string_member(o, "reason", e->reason);
    return o;
}

static JsonObject *bitmap_inconsistent_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "node", e->disk);
    json_object_set_string_member(o, "name", e->name);
    json_object_set_string_member(o, "reason", e->reason);
    return o;
}

static JsonObject *scratch_low_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_int_member(o, "used", (gint64)e->used);
    json_object_set_int_member(o, "limit", (gint64)e->limit);
    return o;
}

static JsonObject *export_deleted_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "id", e->id);
    return o;
}

static JsonObject *checkpoint_deleted_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "name", e->name);
    json_object_set_string_member(o, "reason", e->reason);
    return o;
}

static JsonObject *backup_ended_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "id", e->id);
    json_object_set_string_member(o, "result", e->result);
    if (e->reason)
        json_object_set_string_member(o, "reason", e->reason);
    return o;
}

/* QEMU's SHUTDOWN says whether the guest asked for it. Here no guest can. */
static JsonObject *shutdown_data(const struct server_event *e)
{
    JsonObject *o = json_object_new();

    json_object_set_boolean_member(o, "guest", FALSE);
    json_object_set_string_member(o, "reason", e->reason ? e->reason : "host-signal");
    return o;
}

void control_format_event(GString *line, const struct server_event *event)
{
    static const struct {
        const char *name;
        JsonObject *(*data)(const struct server_event *e);
    } kinds[] = {
        [EVENT_VIEW_BROKEN] = {"VIEW_BROKEN", view_broken_data},
        [EVENT_BITMAP_INCONSISTENT] = {"BITMAP_INCONSISTENT", bitmap_inconsistent_data},
        [EVENT_SCRATCH_LOW] = {"SCRATCH_LOW", scratch_low_data},
        [EVENT_BLOCK_EXPORT_DELETED] = {"BLOCK_EXPORT_DELETED", export_deleted_data},
        [EVENT_CHECKPOINT_DELETED] = {"CHECKPOINT_DELETED", checkpoint_deleted_data},
        [EVENT_BACKUP_ENDED] = {"BACKUP_ENDED", backup_ended_data},
        [EVENT_SHUTDOWN] = {"SHUTDOWN", shutdown_data},
    };

    qmp_event(line, kinds[event->kind].name, kinds[event->kind].data(event), event->time_usec);
}
