/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block-dirty-bitmap-*: as actions; the commands of the same names are transactions of one.
 */
#include "common/util/error.h"
#include "server/control/control-private.h"

const struct arg bitmap_args[] = {ARG("node", ARG_STRING), ARG("name", ARG_STRING), ARGS_END};

const struct arg bitmap_add_args[] = {
    ARG("node", ARG_STRING),
    ARG("name", ARG_STRING),
    ARG_OPT("granularity", ARG_UINT32),
    ARG_OPT("persistent", ARG_BOOL),
    ARG_OPT("disabled", ARG_BOOL),
    ARGS_END,
};

const struct arg bitmap_or_string = {
    .type = ARG_ALTERNATE, .of = bitmap_args, .alternate = "BlockDirtyBitmapOrStr"};
const struct arg bitmap_merge_args[] = {
    ARG("node", ARG_STRING),
    ARG("target", ARG_STRING),
    ARG("bitmaps", ARG_LIST, .of = &bitmap_or_string),
    ARGS_END,
};

/* In QEMU a bitmap that a transaction has removed stays where it was, busy, until all of it is
 * done: later actions cannot use it, nor its name. */
static char *removed_key(struct disk *d, const char *name)
{
    return g_strdup_printf("%p/%s", (void *)d, name);
}

static bool is_removed(struct staging *t, struct disk *d, const char *name)
{
    g_autofree char *key = removed_key(d, name);

    return g_hash_table_contains(t->removed, key);
}

/* The disk of a bitmap that an action works on. */
static struct disk *lookup(struct staging *t, const char *node, const char *name, GError **err)
{
    struct disk *d = control_lookup_bitmap_disk(t->server, node, name, err);

    if (!d || !is_removed(t, d, name))
        return d;
    fail(err, "Bitmap '%s' is currently in use by another operation and cannot be used", name);
    return NULL;
}

int stage_bitmap_add(struct staging *t, JsonObject *data, GError **err)
{
    const char *name = arg_string(data, "name"), *node = arg_string(data, "node");
    int64_t granularity = arg_int(data, "granularity", BITMAP_MIN_GRANULARITY);
    struct node *n;

    if (name[0] == '\0')
        return fail(err, "Bitmap name cannot be empty");
    n = control_lookup_device(t->server, node, node, err);
    if (!n)
        return -1;
    /* Before the next check: the engine would take 0 for its default. */
    if (granularity < BITMAP_MIN_GRANULARITY || (granularity & (granularity - 1)) != 0)
        return fail(err, "Granularity must be power of 2 and at least 512");
    if (arg_bool(data, "persistent", false))
        return fail(err, "Can't store persistent bitmaps to %s: Operation not supported", node);
    if (!node_to_disk(n))
        return fail(err, "Node '%s' is a view: bitmaps belong to disks", node);
    if (is_removed(t, node_to_disk(n), name))
        return fail(err, "Bitmap already exists: %s", name);
    return instant_bitmap_add(t->instant, node_to_disk(n), name,
                              (uint32_t)arg_int(data, "granularity", 0),
                              !arg_bool(data, "disabled", false), err);
}

static struct disk *action_disk(struct staging *t, JsonObject *data, GError **err)
{
    return lookup(t, arg_string(data, "node"), arg_string(data, "name"), err);
}

int stage_bitmap_remove(struct staging *t, JsonObject *data, GError **err)
{
    const char *name = arg_string(data, "name");
    struct disk *d = action_disk(t, data, err);

    if (!d || instant_bitmap_remove(t->instant, d, name, err) < 0)
        return -1;
    g_hash_table_add(t->removed, removed_key(d, name));
    return 0;
}

int stage_bitmap_clear(struct staging *t, JsonObject *data, GError **err)
{
    struct disk *d = action_disk(t, data, err);

    return d ? instant_bitmap_clear(t->instant, d, arg_string(data, "name"), err) : -1;
}

int stage_bitmap_enable(struct staging *t, JsonObject *data, GError **err)
{
    struct disk *d = action_disk(t, data, err);

    return d ? instant_bitmap_record(t->instant, d, arg_string(data, "name"), true, err) : -1;
}

int stage_bitmap_disable(struct staging *t, JsonObject *data, GError **err)
{
    struct disk *d = action_disk(t, data, err);

    return d ? instant_bitmap_record(t->instant, d, arg_string(data, "name"), false, err) : -1;
}

/* One source of a merge: a bitmap of the target's disk by name, or one of any disk. */
static int stage_source(struct staging *t, struct disk *d, const char *target, JsonNode *source,
                        GError **err)
{
    struct disk *from;
    const char *name;
    JsonObject *o;

    if (JSON_NODE_HOLDS_VALUE(source)) {
        name = json_node_get_string(source);
        from = lookup(t, disk_name(d), name, err);
    } else {
        o = json_node_get_object(source);
        name = arg_string(o, "name");
        from = action_disk(t, o, err);
    }
    return from ? instant_bitmap_merge(t->instant, d, target, from, name, err) : -1;
}

int stage_bitmap_merge(struct staging *t, JsonObject *data, GError **err)
{
    const char *target = arg_string(data, "target");
    struct disk *d = lookup(t, arg_string(data, "node"), target, err);
    JsonArray *sources = arg_list(data, "bitmaps");

    /* The target is checked also where there is nothing to merge: it takes in itself, which changes
     * nothing. */
    if (!d || instant_bitmap_merge(t->instant, d, target, d, target, err) < 0)
        return -1;
    for (guint i = 0; i < json_array_get_length(sources); i++)
        if (stage_source(t, d, target, json_array_get_element(sources, i), err) < 0)
            return -1;
    return 0;
}

int cmd_bitmap_sha256(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    const char *name = arg_string(args, "name");
    struct disk *d =
        control_lookup_bitmap_disk(call_server(call), arg_string(args, "node"), name, err);
    struct dirty_bitmap *db = d ? disk_find_bitmap(d, name) : NULL;
    struct bitmap *bits = db ? dirty_bitmap_bits(db) : NULL;
    g_autofree char *hash = bits ? bitmap_sha256(bits) : NULL;
    JsonObject *o;

    bitmap_unref(bits);
    if (db)
        dirty_bitmap_unref(db);
    if (!d)
        return -1;
    if (!hash)
        return fail(err, "Dirty bitmap '%s' not found", name);
    o = json_object_new();
    json_object_set_string_member(o, "sha256", hash);
    *value = qmp_object(o);
    return 0;
}
