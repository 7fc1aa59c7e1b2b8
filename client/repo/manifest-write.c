/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/manifest-write.h"
#include "client/repo/repo-time.h"
#include "client/repo/repository.h"
#include "common/json/value.h"
#include "common/json/write.h"

static void add_time(JsonBuilder *b, const char *name, int64_t time)
{
    g_autofree char *text = repo_time_text(time);

    json_add_string(b, name, text);
}

static void add_int(JsonBuilder *b, const char *name, int64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

static void add_disk(JsonBuilder *b, const struct repo_disk *d)
{
    json_builder_begin_object(b);
    json_add_string(b, "disk", d->disk);
    json_add_string(b, "file", d->file);
    json_add_string(b, "level", repo_level_name(d->level));
    if (d->parent >= 0)
        add_int(b, "parent", d->parent);
    else
        json_add_string(b, "parent", NULL);
    json_add_string(b, "since", d->since);
    json_add_string(b, "reason", d->reason);
    json_add_size(b, "size", d->size);
    json_add_size(b, "bytes", d->bytes);
    json_add_size(b, "read", d->read);
    json_add_string(b, "sums", d->sums);
    json_builder_end_object(b);
}

static void add_member(JsonBuilder *b, const struct repo_member *m)
{
    json_builder_begin_object(b);
    add_int(b, "id", m->id);
    json_add_string(b, "uuid", m->uuid);
    add_time(b, "time", m->time);
    json_add_string(b, "level", repo_level_name(repo_member_level(m)));
    json_add_string(b, "checkpoint", m->checkpoint);
    json_add_string(b, "session", m->session);
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < m->disks->len; i++)
        add_disk(b, m->disks->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static char *write_unsealed(const struct repository *r)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(b);
    json_add_string(b, "format", MANIFEST_FORMAT);
    add_int(b, "version", MANIFEST_VERSION);
    json_add_string(b, "uuid", r->uuid);
    add_time(b, "created", r->created);
    add_int(b, "next-id", r->next_id);
    json_builder_set_member_name(b, "members");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->members->len; i++)
        add_member(b, r->members->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    return json_write(root, true);
}

GString *manifest_write(const struct repository *r)
{
    g_autofree char *unsealed = write_unsealed(r);
    GString *text = g_string_new(unsealed);
    g_autofree char *hash = NULL;

    g_string_truncate(text, text->len - strlen("\n}"));
    g_string_append(text, ",\n");
    hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text->str, (gssize)text->len);
    g_string_append_printf(text, MANIFEST_SEAL "%s\"\n}\n", hash);
    return text;
}
