/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/session-record.h"

#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"
#include "common/util/error.h"
#include "common/util/names.h"

#include <string.h>

static const char *const states[] = {
    [SESSION_ACTIVE] = "active", [SESSION_COMMITTED] = "committed", [SESSION_ABORTED] = "aborted"};

static void clear_disk(gpointer disk)
{
    struct session_record_disk *d = disk;

    g_free(d->disk);
    g_free(d->export);
    g_free(d->bitmap);
    g_free(d->since);
    g_free(d->reason);
}

void session_record_init(struct session_record *r, const char *id)
{
    *r = (struct session_record){.id = g_strdup(id)};
    r->disks = g_array_new(FALSE, TRUE, sizeof(struct session_record_disk));
    g_array_set_clear_func(r->disks, clear_disk);
}

void session_record_clear(struct session_record *r)
{
    g_free(r->id);
    g_free(r->since);
    g_free(r->checkpoint);
    g_free(r->reason);
    g_free(r->quiesce_error);
    g_array_unref(r->disks);
    *r = (struct session_record){.state = SESSION_ACTIVE};
}

/* ---- writing ---- */

/* A reason may name a file, whose path need not be UTF-8; a record has to be. */
static void add_text(JsonBuilder *b, const char *name, const char *value)
{
    g_autofree char *valid = value ? g_utf8_make_valid(value, -1) : NULL;

    if (valid)
        json_add_string(b, name, valid);
}

static void add_disk(JsonBuilder *b, const struct session_record_disk *d)
{
    json_builder_begin_object(b);
    add_text(b, "disk", d->disk);
    add_text(b, "export", d->export);
    add_text(b, "bitmap", d->bitmap);
    json_add_size(b, "size", d->size);
    json_add_bool(b, "incremental", d->incremental);
    add_text(b, "since", d->since);
    add_text(b, "reason", d->reason);
    json_builder_end_object(b);
}

static void add_disks(JsonBuilder *b, const struct session_record *r)
{
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (unsigned i = 0; i < r->disks->len; i++)
        add_disk(b, session_record_disk(r, i));
    json_builder_end_array(b);
}

char *session_record_text(const struct session_record *r)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(b);
    json_add_string(b, "state", states[r->state]);
    json_add_size(b, "time-usec", (uint64_t)MAX(r->time_usec, 0));
    if (r->ended_usec > 0)
        json_add_size(b, "ended-usec", (uint64_t)r->ended_usec);
    add_text(b, "since", r->since);
    add_text(b, "checkpoint", r->checkpoint);
    add_text(b, "reason", r->reason);
    json_add_size(b, "lease", (uint64_t)r->lease);
    json_add_size(b, "scratch-limit", r->scratch_limit);
    json_add_bool(b, "discard", r->discard);
    json_add_bool(b, "alone", r->alone);
    if (r->hooked)
        json_add_bool(b, "quiesced", r->quiesced);
    add_text(b, "quiesce-error", r->quiesce_error);
    add_disks(b, r);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    return json_write(root, false);
}

/* ---- reading ---- */

static int take_text(JsonObject *o, const char *member, bool needed, char **value, GError **err)
{
    const char *s = json_member_string(o, member);

    if (!s && (needed || json_object_has_member(o, member)))
        return fail(err, "its %s is not a text", member);
    *value = g_strdup(s);
    return 0;
}

static int take_disk(JsonNode *node, struct session_record *r, GError **err)
{
    struct session_record_disk *d;
    JsonObject *o;

    if (!JSON_NODE_HOLDS_OBJECT(node))
        return fail(err, "one of its disks is not a JSON object");
    o = json_node_get_object(node);
    g_array_set_size(r->disks, r->disks->len + 1);
    d = session_record_disk(r, r->disks->len - 1);
    d->size = json_member_size(o, "size");
    d->incremental = json_member_bool(o, "incremental");
    if (take_text(o, "disk", true, &d->disk, err) < 0 ||
        take_text(o, "export", true, &d->export, err) < 0 ||
        take_text(o, "bitmap", true, &d->bitmap, err) < 0 ||
        take_text(o, "since", false, &d->since, err) < 0)
        return -1;
    return take_text(o, "reason", false, &d->reason, err);
}

static int take_disks(JsonObject *o, struct session_record *r, GError **err)
{
    JsonArray *disks = json_member_array(o, "disks");
    guint n = disks ? json_array_get_length(disks) : 0;

    if (n == 0)
        return fail(err, "it names no disks");
    for (guint i = 0; i < n; i++)
        if (take_disk(json_array_get_element(disks, i), r, err) < 0)
            return -1;
    return 0;
}

static int take_state(JsonObject *o, struct session_record *r, GError **err)
{
    const char *state = json_member_string(o, "state");

    for (unsigned i = 0; i < G_N_ELEMENTS(states); i++)
        if (g_strcmp0(state, states[i]) == 0) {
            r->state = i;
            return 0;
        }
    return fail(err, "its state is not known");
}

static int take_object(JsonObject *o, struct session_record *r, GError **err)
{
    r->time_usec = (int64_t)json_member_size(o, "time-usec");
    r->ended_usec = (int64_t)json_member_size(o, "ended-usec");
    r->lease = (int64_t)json_member_size(o, "lease");
    r->scratch_limit = json_member_size(o, "scratch-limit");
    r->discard = json_member_bool(o, "discard");
    r->alone = json_member_bool(o, "alone");
    r->hooked = json_object_has_member(o, "quiesced");
    r->quiesced = json_member_bool(o, "quiesced");
    if (take_state(o, r, err) < 0 || take_text(o, "since", false, &r->since, err) < 0 ||
        take_text(o, "checkpoint", false, &r->checkpoint, err) < 0 ||
        take_text(o, "reason", false, &r->reason, err) < 0 ||
        take_text(o, "quiesce-error", false, &r->quiesce_error, err) < 0)
        return -1;
    return take_disks(o, r, err);
}

int session_record_parse(struct session_record *r, const char *id, const char *text, GError **err)
{
    const struct json_limits limits = {
        .bytes = 1 << 20, .tokens = 1 << 17, .depth = 16, .exact = true};
    g_autoptr(JsonNode) root = NULL;

    if (!name_is_well_formed(id) || strlen(id) > SESSION_MAX_ID)
        return fail(err, "no backup session has such an id");
    root = json_read(text, strlen(text), &limits, err);
    if (!root)
        return -1;
    if (!JSON_NODE_HOLDS_OBJECT(root))
        return fail(err, "it is not a JSON object");
    session_record_init(r, id);
    if (take_object(json_node_get_object(root), r, err) == 0)
        return 0;
    session_record_clear(r);
    return -1;
}
