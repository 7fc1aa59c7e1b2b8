/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A manifest may have been changed by hand, cut, or made by somebody who means harm. So nothing in it is
 * believed: first the text is compared with the hash at its end, then each value is checked, then
 * how members fit each other. What has passed has, for each disk of a member, a file in the
 * repository that nothing else names, and parents that lead to a full.
 */
#include "client/repo/manifest-read.h"
#include "client/base/error.h"
#include "client/repo/manifest-write.h"
#include "client/repo/repo-time.h"
#include "client/repo/repository.h"
#include "common/json/read.h"

#include <inttypes.h>
#include <string.h>

#define HASH_CHARS 64

/* Room for some hundred thousand members. */
static const struct json_limits limits = {
    .bytes = 256 << 20, .tokens = 32 << 20, .depth = 16, .exact = true};

static int wrong(GError **err, const char *what)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s", what);
}

/* ---- values ---- */

static int missing(GError **err, const char *name, const char *kind)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "\"%s\" is missing, or is not %s", name, kind);
}

/* Is there such a member that is not null? */
static bool has_value(JsonObject *o, const char *name)
{
    return json_object_has_member(o, name) && !json_object_get_null_member(o, name);
}

static int get_text(JsonObject *o, const char *name, const char **text, GError **err)
{
    JsonNode *node = json_object_get_member(o, name);

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING)
        return missing(err, name, "a string");
    *text = json_node_get_string(node);
    return **text != '\0' ? 0 : missing(err, name, "a string that is not empty");
}

static int get_string(JsonObject *o, const char *name, char **string, GError **err)
{
    const char *text;

    if (get_text(o, name, &text, err) < 0)
        return -1;
    *string = g_strdup(text);
    return 0;
}

/* One that may be missing or null: then *string stays NULL. */
static int get_option(JsonObject *o, const char *name, char **string, GError **err)
{
    return has_value(o, name) ? get_string(o, name, string, err) : 0;
}

static int get_number(JsonObject *o, const char *name, int64_t *number, GError **err)
{
    JsonNode *node = json_object_get_member(o, name);

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64 ||
        json_node_get_int(node) < 0)
        return missing(err, name, "a whole number");
    *number = json_node_get_int(node);
    return 0;
}

static int get_bytes(JsonObject *o, const char *name, uint64_t *bytes, GError **err)
{
    int64_t number;

    if (get_number(o, name, &number, err) < 0)
        return -1;
    *bytes = (uint64_t)number;
    return 0;
}

static int get_time(JsonObject *o, const char *name, int64_t *time, GError **err)
{
    const char *text;

    if (get_text(o, name, &text, err) < 0)
        return -1;
    return repo_time_parse(text, time)
               ? 0
               : missing(err, name, "a time such as \"2026-11-29T03:00:00.000000Z\"");
}

static int get_uuid(JsonObject *o, char **uuid, GError **err)
{
    if (get_string(o, "uuid", uuid, err) < 0)
        return -1;
    return g_uuid_string_is_valid(*uuid) ? 0 : missing(err, "uuid", "a UUID");
}

static int get_level(JsonObject *o, enum repo_level *level, GError **err)
{
    const char *text;

    if (get_text(o, "level", &text, err) < 0)
        return -1;
    return repo_level_parse(text, level) ? 0 : missing(err, "level", "full, inc or diff");
}

static int get_hash(JsonObject *o, const char *name, char **hash, GError **err)
{
    if (get_string(o, name, hash, err) < 0)
        return -1;
    return strlen(*hash) == HASH_CHARS && strspn(*hash, "0123456789abcdef") == HASH_CHARS
               ? 0
               : missing(err, name, "a SHA-256 in hex");
}

static JsonObject *get_object(JsonArray *array, guint i, GError **err)
{
    JsonNode *node = json_array_get_element(array, i);

    if (JSON_NODE_HOLDS_OBJECT(node))
        return json_node_get_object(node);
    client_fail(err, CLIENT_ERROR_FAILED, "number %u of the array is not an object", i);
    return NULL;
}

static JsonArray *get_array(JsonObject *o, const char *name, GError **err)
{
    JsonNode *node = json_object_get_member(o, name);

    if (node && JSON_NODE_HOLDS_ARRAY(node))
        return json_node_get_array(node);
    missing(err, name, "an array");
    return NULL;
}

/* ---- how it fits together ---- */

/* What is read, and what is known from it already. */
struct reading {
    struct repository *r;
    GHashTable *files, *uuids; /* those that were named */
    GHashTable *by_id;         /* members that have been read */
};

static int check_parent(const struct reading *g, const struct repo_member *m,
                        const struct repo_disk *d, GError **err)
{
    const struct repo_member *parent;
    const struct repo_disk *below;

    if (d->level == REPO_FULL)
        return d->parent < 0 ? 0 : wrong(err, "it is full, and has a parent");
    if (d->parent < 0)
        return wrong(err, "it is not full, and has no parent");
    if (d->parent >= m->id)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "its parent, member %" PRId64 ", is not older than it", d->parent);
    parent = g_hash_table_lookup(g->by_id, &d->parent);
    if (!parent)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "its parent, member %" PRId64 ", is not in the manifest", d->parent);
    below = repo_member_disk(parent, d->disk);
    if (!below)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "its parent, member %" PRId64 ", does not have the disk", d->parent);
    if (d->level == REPO_DIFF && below->level != REPO_FULL)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "it is a diff, and its parent, member %" PRId64 ", is not full",
                           d->parent);
    return 0;
}

static int check_disk(const struct reading *g, const struct repo_member *m,
                      const struct repo_disk *d, GError **err)
{
    if (repo_member_disk(m, d->disk))
        return wrong(err, "the member has the disk twice");
    if (repo_file_check(d->file, err) < 0)
        return -1;
    if (!g_hash_table_add(g->files, d->file))
        return client_fail(err, CLIENT_ERROR_FAILED, "its file, %s, is another disk's, too",
                           d->file);
    return check_parent(g, m, d, err);
}

static int check_member(const struct reading *g, const struct repo_member *m, enum repo_level level,
                        GError **err)
{
    const GPtrArray *members = g->r->members;
    const struct repo_member *last = members->len > 0 ? members->pdata[members->len - 1] : NULL;

    if (last && m->id <= last->id)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "it stands behind member %" PRId64 ": IDs have to ascend", last->id);
    if (m->id >= g->r->next_id)
        return client_fail(err, CLIENT_ERROR_FAILED, "its ID is not below \"next-id\", %" PRId64,
                           g->r->next_id);
    if (!g_hash_table_add(g->uuids, m->uuid))
        return wrong(err, "its uuid is another member's, too");
    if (m->disks->len == 0)
        return wrong(err, "it has no disks");
    if (level != repo_member_level(m))
        return client_fail(err, CLIENT_ERROR_FAILED, "its level is %s, but %s by its disks",
                           repo_level_name(level), repo_level_name(repo_member_level(m)));
    return 0;
}

/* ---- disks, members ---- */

static int read_parent(JsonObject *o, int64_t *parent, GError **err)
{
    *parent = -1;
    return has_value(o, "parent") ? get_number(o, "parent", parent, err) : 0;
}

static int read_disk_values(JsonObject *o, struct repo_disk *d, GError **err)
{
    return get_string(o, "file", &d->file, err) < 0 || get_level(o, &d->level, err) < 0 ||
                   read_parent(o, &d->parent, err) < 0 ||
                   get_option(o, "since", &d->since, err) < 0 ||
                   get_option(o, "reason", &d->reason, err) < 0 ||
                   get_bytes(o, "size", &d->size, err) < 0 ||
                   get_bytes(o, "bytes", &d->bytes, err) < 0 ||
                   get_bytes(o, "read", &d->read, err) < 0 || get_hash(o, "sums", &d->sums, err) < 0
               ? -1
               : 0;
}

static int read_disk(const struct reading *g, struct repo_member *m, JsonObject *o, GError **err)
{
    struct repo_disk *d = repo_disk_new();

    if (get_string(o, "disk", &d->disk, err) == 0) {
        if (read_disk_values(o, d, err) == 0 && check_disk(g, m, d, err) == 0) {
            g_ptr_array_add(m->disks, d);
            return 0;
        }
        g_prefix_error(err, "disk %s: ", d->disk);
    }
    repo_disk_free(d);
    return -1;
}

static int by_name(gconstpointer a, gconstpointer b)
{
    const struct repo_disk *const *x = a, *const *y = b;

    return strcmp((*x)->disk, (*y)->disk);
}

static int read_disks(const struct reading *g, struct repo_member *m, JsonObject *o, GError **err)
{
    JsonArray *disks = get_array(o, "disks", err);

    for (guint i = 0; disks && i < json_array_get_length(disks); i++) {
        JsonObject *disk = get_object(disks, i, err);

        if (!disk || read_disk(g, m, disk, err) < 0)
            return -1;
    }
    if (!disks)
        return -1;
    g_ptr_array_sort(m->disks, by_name);
    return 0;
}

static int read_member_values(const struct reading *g, struct repo_member *m, JsonObject *o,
                              GError **err)
{
    enum repo_level level;

    if (get_uuid(o, &m->uuid, err) < 0 || get_time(o, "time", &m->time, err) < 0 ||
        get_level(o, &level, err) < 0 || get_option(o, "checkpoint", &m->checkpoint, err) < 0 ||
        get_option(o, "session", &m->session, err) < 0 || read_disks(g, m, o, err) < 0)
        return -1;
    return check_member(g, m, level, err);
}

static int read_member(struct reading *g, JsonObject *o, GError **err)
{
    struct repo_member *m = repo_member_new();

    if (get_number(o, "id", &m->id, err) < 0) {
        repo_member_free(m);
        return -1;
    }
    if (read_member_values(g, m, o, err) < 0) {
        g_prefix_error(err, "member %" PRId64 ": ", m->id);
        repo_member_free(m);
        return -1;
    }
    g_ptr_array_add(g->r->members, m);
    g_hash_table_insert(g->by_id, &m->id, m);
    return 0;
}

/* ---- the whole ---- */

static int check_format(JsonObject *o, GError **err)
{
    const char *format;
    int64_t version;

    if (get_text(o, "format", &format, err) < 0)
        return -1;
    if (strcmp(format, MANIFEST_FORMAT) != 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "its format is \"%s\", not " MANIFEST_FORMAT,
                           format);
    if (get_number(o, "version", &version, err) < 0)
        return -1;
    if (version != MANIFEST_VERSION)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "its version is %" PRId64 ": this program knows version %d", version,
                           MANIFEST_VERSION);
    return 0;
}

static int read_top(struct reading *g, JsonObject *o, GError **err)
{
    JsonArray *members;

    if (check_format(o, err) < 0 || get_uuid(o, &g->r->uuid, err) < 0 ||
        get_time(o, "created", &g->r->created, err) < 0 ||
        get_number(o, "next-id", &g->r->next_id, err) < 0)
        return -1;
    members = get_array(o, "members", err);
    for (guint i = 0; members && i < json_array_get_length(members); i++) {
        JsonObject *member = get_object(members, i, err);

        if (!member || read_member(g, member, err) < 0)
            return -1;
    }
    return members ? 0 : -1;
}

/* Does the hash at the end fit all that stands before it? */
static int check_seal(const char *text, GError **err)
{
    const char *seal = g_strrstr(text, MANIFEST_SEAL);
    g_autofree char *hash = NULL, *end = NULL;

    if (!seal)
        return wrong(err, "it has no \"sha256\" at its end: it is cut short, or was edited");
    hash =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)text, (gsize)(seal - text));
    end = g_strconcat(MANIFEST_SEAL, hash, "\"\n}\n", NULL);
    return strcmp(seal, end) == 0
               ? 0
               : wrong(err, "its \"sha256\" does not fit it: it is damaged, or was edited");
}

int manifest_read(struct repository *r, const char *text, gsize length, GError **err)
{
    g_autoptr(GHashTable) files = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) uuids = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) by_id = g_hash_table_new(g_int64_hash, g_int64_equal);
    struct reading g = {.r = r, .files = files, .uuids = uuids, .by_id = by_id};
    g_autoptr(JsonNode) root = NULL;

    if (memchr(text, '\0', length))
        return wrong(err, "there is a NUL in it: it is damaged");
    if (check_seal(text, err) < 0)
        return -1;
    root = json_read(text, length, &limits, err);
    if (!root)
        return -1;
    if (!JSON_NODE_HOLDS_OBJECT(root))
        return wrong(err, "it is not an object");
    return read_top(&g, json_node_get_object(root), err);
}
