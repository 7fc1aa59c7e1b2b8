/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block-dirty-bitmap-*: as actions; the commands of the same names are transactions of one.
 */
#include "common/util/error.h"
#include "server/backup/backup.h"
#include "server/control/control-private.h"
#include "server/control/transaction.h"

static const struct arg bitmap_add_args[] = {
    ARG("node", ARG_STRING),
    ARG("name", ARG_STRING),
    ARG_OPT("granularity", ARG_UINT32),
    ARG_OPT("persistent", ARG_BOOL),
    ARG_OPT("disabled", ARG_BOOL),
    ARGS_END,
};

static const struct arg set_persistence_args[] = {
    ARG("node", ARG_STRING),
    ARG("name", ARG_STRING),
    ARG("persistent", ARG_BOOL),
    ARGS_END,
};

static const struct arg bitmap_merge_args[] = {
    ARG("node", ARG_STRING),
    ARG("target", ARG_STRING),
    ARG("bitmaps", ARG_LIST, .of = &control_bitmap_or_string),
    ARGS_END,
};

static void add_disk(struct server *s, JsonObject *data, GPtrArray *disks)
{
    struct disk *d = server_find_disk(s, arg_string(data, "node"));

    if (d)
        g_ptr_array_add(disks, d);
}

/* The disk of a bitmap that an action works on. */
static struct disk *lookup(struct transaction *t, const char *node, const char *name, GError **err)
{
    struct disk *d = control_lookup_bitmap_disk(transaction_server(t), node, name, err);

    if (!d || !transaction_has_removed_bitmap(t, d, name))
        return d;
    fail(err, "Bitmap '%s' is currently in use by another operation and cannot be used", name);
    return NULL;
}

/* Can bitmaps of the disk (NULL: it is a view) survive the server? */
static int check_store(const struct disk *d, const char *node, GError **err)
{
    if (d && disk_has_store(d))
        return 0;
    return fail(err, "Can't store persistent bitmaps to %s: Operation not supported", node);
}

static int prepare_add(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    const char *name = arg_string(data, "name"), *node = arg_string(data, "node");
    struct backup *b = transaction_backup(t);
    struct node *n;
    struct disk *d;
    bool persistent;

    if (name[0] == '\0')
        return fail(err, "Bitmap name cannot be empty");
    n = control_lookup_device(transaction_server(t), node, node, err);
    if (!n)
        return -1;
    if (control_check_granularity(data, err) < 0)
        return -1;
    d = node_to_disk(n);
    persistent = arg_bool(data, "persistent", d && disk_has_store(d));
    if (persistent && check_store(d, node, err) < 0)
        return -1;
    if (!d)
        return fail(err, "Node '%s' is a view: bitmaps belong to disks", node);
    if (transaction_has_removed_bitmap(t, d, name) ||
        (b && checkpoint_has_bitmap(b->checkpoints, d, name)))
        return fail(err, "Bitmap already exists: %s", name);
    return instant_bitmap_add(transaction_instant(t), d, name,
                              (uint32_t)arg_int(data, "granularity", 0),
                              !arg_bool(data, "disabled", false), persistent, err);
}

static struct disk *disk_of(struct transaction *t, JsonObject *data, GError **err)
{
    return lookup(t, arg_string(data, "node"), arg_string(data, "name"), err);
}

static int prepare_remove(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    const char *name = arg_string(data, "name");
    struct disk *d = disk_of(t, data, err);

    if (!d || instant_bitmap_remove(transaction_instant(t), d, name, err) < 0)
        return -1;
    transaction_removes_bitmap(t, d, name);
    return 0;
}

static int prepare_clear(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    struct disk *d = disk_of(t, data, err);

    return d ? instant_bitmap_clear(transaction_instant(t), d, arg_string(data, "name"), err) : -1;
}

static int prepare_set_persistence(struct transaction *t, JsonObject *data, void **state,
                                   GError **err)
{
    struct disk *d = disk_of(t, data, err);
    bool persistent = arg_bool(data, "persistent", false);

    if (!d || (persistent && check_store(d, disk_name(d), err) < 0))
        return -1;
    return instant_bitmap_set_persistence(transaction_instant(t), d, arg_string(data, "name"),
                                          persistent, err);
}

static int prepare_populate(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    struct disk *d = disk_of(t, data, err);

    return d ? instant_bitmap_populate(transaction_instant(t), d, arg_string(data, "name"), err)
             : -1;
}

static int record(struct transaction *t, JsonObject *data, bool recording, GError **err)
{
    const char *name = arg_string(data, "name");
    struct disk *d = disk_of(t, data, err);

    return d ? instant_bitmap_record(transaction_instant(t), d, name, recording, err) : -1;
}

static int prepare_enable(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    return record(t, data, true, err);
}

static int prepare_disable(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    return record(t, data, false, err);
}

/* One source of a merge: a bitmap of the target's disk by name, or one of any disk. */
static int merge_source(struct transaction *t, struct disk *d, const char *target, JsonNode *source,
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
        from = disk_of(t, o, err);
    }
    return from ? instant_bitmap_merge(transaction_instant(t), d, target, from, name, err) : -1;
}

static int prepare_merge(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    const char *target = arg_string(data, "target");
    struct disk *d = lookup(t, arg_string(data, "node"), target, err);
    JsonArray *sources = arg_list(data, "bitmaps");

    /* The target is checked also where there is nothing to merge: it takes in itself, which changes
     * nothing. */
    if (!d || instant_bitmap_merge(transaction_instant(t), d, target, d, target, err) < 0)
        return -1;
    for (guint i = 0; i < json_array_get_length(sources); i++)
        if (merge_source(t, d, target, json_array_get_element(sources, i), err) < 0)
            return -1;
    return 0;
}

/* The bits of the sources must stand still in the same way as the target's. */
static void disks_of_merge(struct server *s, JsonObject *data, GPtrArray *disks)
{
    JsonArray *sources = arg_list(data, "bitmaps");

    add_disk(s, data, disks);
    for (guint i = 0; i < json_array_get_length(sources); i++) {
        JsonNode *source = json_array_get_element(sources, i);

        if (JSON_NODE_HOLDS_OBJECT(source))
            add_disk(s, json_node_get_object(source), disks);
    }
}

static const struct action add = {.disks = add_disk, .prepare = prepare_add};
static const struct action remove_bitmap = {.disks = add_disk, .prepare = prepare_remove};
static const struct action clear = {.disks = add_disk, .prepare = prepare_clear};
static const struct action enable = {.disks = add_disk, .prepare = prepare_enable};
static const struct action disable = {.disks = add_disk, .prepare = prepare_disable};
static const struct action set_persistence = {.disks = add_disk,
                                              .prepare = prepare_set_persistence};
static const struct action populate = {.disks = add_disk, .prepare = prepare_populate};
static const struct action merge = {.disks = disks_of_merge, .prepare = prepare_merge};

static int sha256(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    const char *name = arg_string(args, "name");
    struct disk *d =
        control_lookup_bitmap_disk(call_server(call), arg_string(args, "node"), name, err);
    struct dirty_bitmap *db = d ? disk_find_bitmap(d, name) : NULL;
    bool good = db && export_check_bitmap(db, err) == 0;
    struct bitmap *bits = good ? dirty_bitmap_bits(db) : NULL;
    g_autofree char *hash = bits ? bitmap_sha256(bits) : NULL;
    JsonObject *o;

    bitmap_unref(bits);
    if (db)
        dirty_bitmap_unref(db);
    if (!d || (db && !good))
        return -1;
    if (!hash)
        return fail(err, "Dirty bitmap '%s' not found", name);
    o = json_object_new();
    json_object_set_string_member(o, "sha256", hash);
    *value = qmp_object(o);
    return 0;
}

/* clang-format off */
const struct qmp_command bitmap_commands[] = {
    {"block-dirty-bitmap-add", "Adds a bitmap to a disk.",
     bitmap_add_args, .start = transaction_of_one, .action = &add},
    {"block-dirty-bitmap-remove", "Removes a bitmap.",
     control_bitmap_args, .start = transaction_of_one, .action = &remove_bitmap},
    {"block-dirty-bitmap-clear", "Clears all bits of a bitmap.",
     control_bitmap_args, .start = transaction_of_one, .action = &clear},
    {"block-dirty-bitmap-enable", "Lets a bitmap record from now on.",
     control_bitmap_args, .start = transaction_of_one, .action = &enable},
    {"block-dirty-bitmap-disable", "Lets a bitmap record no more; its bits stay.",
     control_bitmap_args, .start = transaction_of_one, .action = &disable},
    {"block-dirty-bitmap-merge", "Adds to one bitmap what is dirty in others.",
     bitmap_merge_args, .start = transaction_of_one, .action = &merge},
    {"block-dirty-bitmap-populate", "Marks in a bitmap what the image has allocated.",
     control_bitmap_args, .start = transaction_of_one, .action = &populate},
    {"block-dirty-bitmap-set-persistence", "Lets a bitmap survive the server, or not.",
     set_persistence_args, .start = transaction_of_one, .action = &set_persistence},
    {"x-debug-block-dirty-bitmap-sha256", "Returns a hash of a bitmap's bits, for tests.",
     control_bitmap_args, .run = sha256},
    {.name = NULL},
};
/* clang-format on */
