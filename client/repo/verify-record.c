/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/verify-record.h"
#include "client/base/replace-file.h"
#include "client/repo/repo-time.h"
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"

#include <string.h>

#define RECORD        "verify.json"
#define RECORD_FORMAT "nbdfleece-verify"

static const struct json_limits limits = {
    .bytes = 256 << 20, .tokens = 32 << 20, .depth = 16, .exact = true};

struct verify_record {
    GHashTable *results; /* key_of() → struct verified */
};

/* A file that prune has written anew has another name, or other checksums, and was not verified. */
static char *key_of(const char *uuid, const char *disk, const char *sums)
{
    return g_strjoin("/", uuid, sums, disk, NULL);
}

static void verified_free(struct verified *r)
{
    g_ptr_array_unref(r->wrong);
    g_free(r);
}

void verify_record_free(verify_record *v)
{
    g_hash_table_unref(v->results);
    g_free(v);
}

static struct verified *add(verify_record *v, char *key, int64_t time, bool deep)
{
    struct verified *r = g_new0(struct verified, 1);

    r->time = time;
    r->deep = deep;
    r->wrong = g_ptr_array_new_with_free_func(g_free);
    g_hash_table_replace(v->results, key, r);
    return r;
}

/* ---- reading ---- */

static void read_result(verify_record *v, JsonObject *o)
{
    const char *uuid = json_member_string(o, "uuid"), *disk = json_member_string(o, "disk"),
               *sums = json_member_string(o, "sums"), *when = json_member_string(o, "time");
    JsonArray *wrong = json_member_array(o, "wrong");
    struct verified *r;
    int64_t time;

    if (!uuid || !disk || !sums || !when || !wrong || !repo_time_parse(when, &time))
        return;
    r = add(v, key_of(uuid, disk, sums), time, json_member_bool(o, "deep"));
    for (guint i = 0; i < json_array_get_length(wrong); i++) {
        JsonNode *text = json_array_get_element(wrong, i);

        if (JSON_NODE_HOLDS_VALUE(text) && json_node_get_value_type(text) == G_TYPE_STRING)
            g_ptr_array_add(r->wrong, g_strdup(json_node_get_string(text)));
    }
}

static void read_results(verify_record *v, JsonNode *root)
{
    JsonObject *o = JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
    JsonArray *results;

    if (!o || g_strcmp0(json_member_string(o, "format"), RECORD_FORMAT) != 0)
        return;
    results = json_member_array(o, "results");
    for (guint i = 0; results && i < json_array_get_length(results); i++) {
        JsonNode *result = json_array_get_element(results, i);

        if (JSON_NODE_HOLDS_OBJECT(result))
            read_result(v, json_node_get_object(result));
    }
}

verify_record *verify_record_read(const struct repository *r)
{
    verify_record *v = g_new0(verify_record, 1);
    g_autofree char *path = repo_path(r, RECORD), *text = NULL;
    g_autoptr(JsonNode) root = NULL;
    gsize length;

    v->results =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)verified_free);
    if (g_file_test(path, G_FILE_TEST_IS_REGULAR) &&
        g_file_get_contents(path, &text, &length, NULL))
        root = json_read(text, length, &limits, NULL);
    if (root)
        read_results(v, root);
    return v;
}

/* ---- asking and noting ---- */

const struct verified *verify_record_get(const verify_record *v, const struct repo_member *m,
                                         const struct repo_disk *d)
{
    g_autofree char *key = key_of(m->uuid, d->disk, d->sums);

    return g_hash_table_lookup(v->results, key);
}

char *verify_record_fault(const verify_record *v, const struct repo_member *m,
                          const struct repo_disk *d)
{
    const struct verified *last = verify_record_get(v, m, d);
    g_autofree char *time = NULL;

    if (!last || last->wrong->len == 0)
        return NULL;
    time = repo_time_text(last->time);
    return g_strdup_printf("verify of %s found %s damaged", time ? time : "some day", d->file);
}

void verify_record_set(verify_record *v, const struct repo_member *m, const struct repo_disk *d,
                       bool deep, const GPtrArray *wrong)
{
    const struct verified *last = verify_record_get(v, m, d);
    struct verified *r;

    if (!deep && wrong->len == 0 && last && last->deep)
        return;
    r = add(v, key_of(m->uuid, d->disk, d->sums), g_get_real_time(), deep);
    for (guint i = 0; i < wrong->len; i++)
        g_ptr_array_add(r->wrong, g_strdup(wrong->pdata[i]));
}

/* ---- writing ---- */

static void add_result(JsonBuilder *b, const struct repo_member *m, const struct repo_disk *d,
                       const struct verified *r)
{
    g_autofree char *time = repo_time_text(r->time);

    json_builder_begin_object(b);
    json_add_size(b, "id", (uint64_t)m->id);
    json_add_string(b, "uuid", m->uuid);
    json_add_string(b, "disk", d->disk);
    json_add_string(b, "sums", d->sums);
    json_add_string(b, "time", time);
    json_add_bool(b, "deep", r->deep);
    json_builder_set_member_name(b, "wrong");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->wrong->len; i++)
        json_builder_add_string_value(b, r->wrong->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void add_member(JsonBuilder *b, const verify_record *v, const struct repo_member *m)
{
    for (guint i = 0; i < m->disks->len; i++) {
        const struct verified *r = verify_record_get(v, m, m->disks->pdata[i]);

        if (r)
            add_result(b, m, m->disks->pdata[i], r);
    }
}

static char *make_text(const verify_record *v, const struct repository *r)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    json_builder_begin_object(b);
    json_add_string(b, "format", RECORD_FORMAT);
    json_builder_set_member_name(b, "results");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->members->len; i++)
        add_member(b, v, r->members->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    text = json_write(root, true);
    return g_strconcat(text, "\n", NULL);
}

int verify_record_write(const verify_record *v, const struct repository *r, GError **err)
{
    g_autofree char *path = repo_path(r, RECORD), *text = make_text(v, r);

    return replace_file(path, text, strlen(text), err);
}
