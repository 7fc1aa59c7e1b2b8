/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/backup-record.h"
#include "client/base/error.h"
#include "client/base/replace-file.h"
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define RECORD_VERSION 1

/* A record of thousands of disks fits. */
static const struct json_limits limits = {
    .bytes = 16u << 20, .tokens = 4u << 20, .depth = 16, .exact = true};

static char *record_path(const struct repository *repo)
{
    return g_build_filename(repo->path, "running.json", NULL);
}

static void free_disk(void *data)
{
    struct record_disk *d = data;

    backup_choice_free(d->choice);
    if (d->done)
        repo_disk_free(d->done);
    g_free(d);
}

struct backup_record *backup_record_new(int64_t id, const char *uuid, const char *session)
{
    struct backup_record *r = g_new0(struct backup_record, 1);

    r->id = id;
    r->uuid = g_strdup(uuid);
    r->session = g_strdup(session);
    r->disks = g_ptr_array_new_with_free_func(free_disk);
    return r;
}

void backup_record_free(struct backup_record *r)
{
    if (!r)
        return;
    g_ptr_array_unref(r->disks);
    g_free(r->uuid);
    g_free(r->session);
    g_free(r);
}

struct record_disk *backup_record_add(struct backup_record *r, struct backup_choice *choice)
{
    struct record_disk *d = g_new0(struct record_disk, 1);

    d->choice = choice;
    g_ptr_array_add(r->disks, d);
    return d;
}

struct record_disk *backup_record_disk(const struct backup_record *r, const char *disk)
{
    for (guint i = 0; i < r->disks->len; i++) {
        struct record_disk *d = g_ptr_array_index(r->disks, i);

        if (strcmp(d->choice->disk, disk) == 0)
            return d;
    }
    return NULL;
}

/* ---- writing ---- */

static void add_number(JsonBuilder *b, const char *name, int64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

static void add_disk(JsonBuilder *b, const struct record_disk *d)
{
    json_builder_begin_object(b);
    json_add_string(b, "disk", d->choice->disk);
    json_add_string(b, "level", repo_level_name(d->choice->level));
    add_number(b, "parent", d->choice->parent);
    json_add_string(b, "since", d->choice->since);
    json_add_string(b, "reason", d->choice->reason);
    if (d->done) {
        json_builder_set_member_name(b, "done");
        json_builder_begin_object(b);
        json_add_size(b, "size", d->done->size);
        json_add_size(b, "bytes", d->done->bytes);
        json_add_size(b, "read", d->done->read);
        json_add_string(b, "sums", d->done->sums);
        json_builder_end_object(b);
    }
    json_builder_end_object(b);
}

static char *record_text(const struct backup_record *r)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(b);
    add_number(b, "version", RECORD_VERSION);
    add_number(b, "id", r->id);
    json_add_string(b, "uuid", r->uuid);
    json_add_string(b, "session", r->session);
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->disks->len; i++)
        add_disk(b, g_ptr_array_index(r->disks, i));
    json_builder_end_array(b);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    return json_write(root, true);
}

int backup_record_save(const struct backup_record *r, const struct repository *repo, GError **err)
{
    g_autofree char *path = record_path(repo);
    g_autofree char *text = record_text(r);

    return replace_file(path, text, strlen(text), err);
}

int backup_record_update(const struct backup_record *r, const struct repository *repo, GError **err)
{
    g_autofree char *path = record_path(repo);
    g_autofree char *text = record_text(r);

    return replace_file_unsynced(path, text, strlen(text), err);
}

/* ---- reading ---- */

static struct repo_disk *read_done(JsonObject *o, const struct backup_choice *c, int64_t id)
{
    struct repo_disk *d = repo_disk_new();

    d->disk = g_strdup(c->disk);
    d->file = repo_file_name(c->disk, id, c->level);
    d->level = c->level;
    d->parent = c->parent;
    d->since = g_strdup(c->since);
    d->reason = g_strdup(c->reason);
    d->size = json_member_size(o, "size");
    d->bytes = json_member_size(o, "bytes");
    d->read = json_member_size(o, "read");
    d->sums = g_strdup(json_member_string(o, "sums"));
    return d;
}

/* false: it makes no sense. */
static bool read_disk(struct backup_record *r, JsonNode *node)
{
    JsonObject *o = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    const char *disk = o ? json_member_string(o, "disk") : NULL;
    const char *level_name = o ? json_member_string(o, "level") : NULL;
    JsonObject *done = o ? json_member_object(o, "done") : NULL;
    enum repo_level level;
    struct backup_choice *c;
    struct record_disk *d;

    if (!disk || backup_record_disk(r, disk) || !level_name ||
        !repo_level_parse(level_name, &level))
        return false;
    c = backup_choice_new(disk);
    d = backup_record_add(r, c);
    c->level = level;
    c->since = g_strdup(json_member_string(o, "since"));
    c->reason = g_strdup(json_member_string(o, "reason"));
    if (level != REPO_FULL)
        c->parent = (int64_t)json_member_size(o, "parent");
    if (!done)
        return level == REPO_FULL || c->since;
    d->done = read_done(done, c, r->id);
    return d->done->sums && (level == REPO_FULL || c->since);
}

/* NULL: it makes no sense. */
static struct backup_record *read_record(JsonNode *node)
{
    JsonObject *o = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    const char *uuid = o ? json_member_string(o, "uuid") : NULL;
    const char *session = o ? json_member_string(o, "session") : NULL;
    JsonArray *disks = o ? json_member_array(o, "disks") : NULL;
    struct backup_record *r;

    if (!uuid || !session || !disks || json_member_size(o, "version") != RECORD_VERSION)
        return NULL;
    r = backup_record_new((int64_t)json_member_size(o, "id"), uuid, session);
    for (guint i = 0; i < json_array_get_length(disks); i++) {
        if (!read_disk(r, json_array_get_element(disks, i))) {
            backup_record_free(r);
            return NULL;
        }
    }
    return r;
}

int backup_record_load(struct backup_record **r, const struct repository *repo, GError **err)
{
    g_autofree char *path = record_path(repo);
    g_autofree char *text = NULL;
    g_autoptr(JsonNode) node = NULL;
    g_autoptr(GError) error = NULL;
    gsize length;

    *r = NULL;
    if (!g_file_get_contents(path, &text, &length, &error)) {
        if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return 0;
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", path, error->message);
    }
    node = json_read(text, length, &limits, &error);
    if (node)
        *r = read_record(node);
    if (!*r)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is no record of a backup: %s; remove it to go on", path,
                           error ? error->message : "something is missing in it, or wrong");
    return 1;
}

int backup_record_remove(const struct repository *repo, GError **err)
{
    g_autofree char *path = record_path(repo);

    if (unlink(path) < 0 && errno != ENOENT)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: cannot remove it: %s", path,
                           g_strerror(errno));
    return 0;
}
