/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/checkpoint-record.h"

#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"
#include "common/util/error.h"

#include <string.h>

struct checkpoint_record *checkpoint_record_new(const char *name)
{
    struct checkpoint_record *r = g_new0(struct checkpoint_record, 1);

    r->name = g_strdup(name);
    r->disks = g_ptr_array_new_with_free_func(g_free);
    r->disk_ids = g_array_new(FALSE, TRUE, sizeof(int64_t));
    return r;
}

void checkpoint_record_free(struct checkpoint_record *r)
{
    if (!r)
        return;
    g_free(r->name);
    g_free(r->description);
    g_free(r->session);
    g_ptr_array_unref(r->disks);
    g_array_unref(r->disk_ids);
    g_free(r);
}

void checkpoint_record_add_disk(struct checkpoint_record *r, const char *name, int64_t id)
{
    g_ptr_array_add(r->disks, g_strdup(name));
    g_array_append_val(r->disk_ids, id);
}

int64_t checkpoint_record_disk_id(const struct checkpoint_record *r, unsigned disk)
{
    return disk < r->disk_ids->len ? g_array_index(r->disk_ids, int64_t, disk) : 0;
}

/* ---- writing ---- */

static void write_ids(JsonBuilder *b, const struct checkpoint_record *r)
{
    json_builder_set_member_name(b, "disk-ids");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->disks->len; i++)
        json_builder_add_int_value(b, checkpoint_record_disk_id(r, i));
    json_builder_end_array(b);
}

static char *write_text(const struct checkpoint_record *r, const char *session)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autofree char *description = r->description ? g_utf8_make_valid(r->description, -1) : NULL;
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(b);
    json_add_size(b, "time-usec", (uint64_t)MAX(r->time_usec, 0));
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->disks->len; i++)
        json_builder_add_string_value(b, r->disks->pdata[i]);
    json_builder_end_array(b);
    write_ids(b, r);
    if (description)
        json_add_string(b, "description", description);
    if (session)
        json_add_string(b, "session", session);
    if (r->deleted)
        json_add_bool(b, "deleted", true);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    return json_write(root, false);
}

char *checkpoint_record_text(const struct checkpoint_record *r)
{
    return write_text(r, r->session);
}

char *checkpoint_record_text_kept(const struct checkpoint_record *r)
{
    return write_text(r, NULL);
}

/* ---- reading ---- */

/* A member that may be missing, but must not be anything else than a string. */
static int optional_string(JsonObject *o, const char *member, char **value, GError **err)
{
    const char *s = json_member_string(o, member);

    if (json_object_has_member(o, member) && (!s || s[0] == '\0'))
        return fail(err, "its %s is not a text", member);
    *value = g_strdup(s);
    return 0;
}

static bool is_boolean(JsonObject *o, const char *member)
{
    JsonNode *node = json_object_get_member(o, member);

    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_BOOLEAN;
}

static int parse_disks(JsonArray *disks, GPtrArray *names, GError **err)
{
    guint n = disks ? json_array_get_length(disks) : 0;

    if (n == 0)
        return fail(err, "it names no disks");
    for (guint i = 0; i < n; i++) {
        JsonNode *node = json_array_get_element(disks, i);
        bool is_text =
            JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING;
        const char *name = is_text ? json_node_get_string(node) : "";

        if (name[0] == '\0')
            return fail(err, "one of its disks has no name");
        if (g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
            return fail(err, "it names disk %s twice", name);
        g_ptr_array_add(names, g_strdup(name));
    }
    return 0;
}

static int parse_ids(JsonObject *o, struct checkpoint_record *r, GError **err)
{
    JsonArray *ids = json_member_array(o, "disk-ids");

    if (!json_object_has_member(o, "disk-ids"))
        return 0;
    if (!ids || json_array_get_length(ids) != r->disks->len)
        return fail(err, "its disk-ids are not those of its disks");
    for (guint i = 0; i < r->disks->len; i++) {
        JsonNode *node = json_array_get_element(ids, i);
        bool is_int = JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_INT64;
        int64_t id = is_int ? json_node_get_int(node) : -1;

        if (id < 0)
            return fail(err, "one of its disk-ids is no number of a disk");
        g_array_append_val(r->disk_ids, id);
    }
    return 0;
}

static int parse_object(JsonObject *o, struct checkpoint_record *r, GError **err)
{
    uint64_t time = json_member_size(o, "time-usec");

    if (time == 0)
        return fail(err, "its time is missing");
    r->time_usec = (int64_t)time;
    r->deleted = json_member_bool(o, "deleted");
    if (json_object_has_member(o, "deleted") && !is_boolean(o, "deleted"))
        return fail(err, "its deleted is not a boolean");
    if (parse_disks(json_member_array(o, "disks"), r->disks, err) < 0 || parse_ids(o, r, err) < 0 ||
        optional_string(o, "description", &r->description, err) < 0)
        return -1;
    return optional_string(o, "session", &r->session, err);
}

struct checkpoint_record *checkpoint_record_parse(const char *name, const char *text, GError **err)
{
    const struct json_limits limits = {
        .bytes = 1 << 20, .tokens = 1 << 17, .depth = 16, .exact = true};
    g_autoptr(JsonNode) root = NULL;
    struct checkpoint_record *r;

    if (name[0] == '\0' || strlen(name) > CHECKPOINT_MAX_NAME) {
        fail(err, "no checkpoint has such a name");
        return NULL;
    }
    root = json_read(text, strlen(text), &limits, err);
    if (!root)
        return NULL;
    if (!JSON_NODE_HOLDS_OBJECT(root)) {
        fail(err, "it is not a JSON object");
        return NULL;
    }
    r = checkpoint_record_new(name);
    if (parse_object(json_node_get_object(root), r, err) == 0)
        return r;
    checkpoint_record_free(r);
    return NULL;
}
