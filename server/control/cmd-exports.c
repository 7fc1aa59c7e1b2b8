/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block-export-add and -del, query-block-exports.
 */
#include "common/util/error.h"
#include "server/control/control-private.h"
#include "server/control/in-turn.h"

#include <string.h>

/* ---- arguments ---- */

static const struct arg authz_name = ARG(NULL, ARG_STRING);
static const char *const export_types[] = {"nbd", NULL};
static const struct arg block_export_add_args[] = {
    ARG("type", ARG_ENUM, .values = export_types),
    ARG("id", ARG_STRING),
    ARG("node-name", ARG_STRING),
    ARG_OPT("writable", ARG_BOOL),
    ARG_OPT("name", ARG_STRING),
    ARG_OPT("description", ARG_STRING),
    ARG_OPT("bitmaps", ARG_LIST, .of = &control_bitmap_or_string),
    ARG_OPT("discard", ARG_BOOL),
    ARG_OPT("tls-required", ARG_BOOL),
    ARG_OPT("tls-authz", ARG_LIST, .of = &authz_name),
    ARGS_END,
};

static const char *const removal_modes[] = {"safe", "hard", NULL};
static const struct arg block_export_del_args[] = {
    ARG("id", ARG_STRING),
    ARG_OPT("mode", ARG_ENUM, .values = removal_modes),
    ARGS_END,
};

/* ---- commands ---- */

/* A bitmap by its name alone: of the exported disk, or of the disk that the exported view is of.
 * In a read-only export its bits have to stand still. */
static struct dirty_bitmap *find_by_name(struct node *n, bool writable, const char *name,
                                         GError **err)
{
    struct view *v = node_to_view(n);
    struct disk *d = v ? view_disk(v) : node_to_disk(n);
    struct dirty_bitmap *db = disk_find_bitmap(d, name);
    struct dirty_bitmap_info info;

    if (!db) {
        fail(err, "Bitmap '%s' is not found", name);
        return NULL;
    }
    dirty_bitmap_flags(db, &info);
    if (!writable && !disk_readonly(d) && info.recording) {
        fail(err, "Enabled bitmap '%s' incompatible with readonly export", name);
        g_clear_pointer(&db, dirty_bitmap_unref);
    }
    return db;
}

static struct dirty_bitmap *find_by_node(struct server *s, JsonObject *o, GError **err)
{
    const char *name = arg_string(o, "name");
    struct disk *d = control_lookup_bitmap_disk(s, arg_string(o, "node"), name, err);
    struct dirty_bitmap *db = d ? disk_find_bitmap(d, name) : NULL;

    if (d && !db)
        fail(err, "Dirty bitmap '%s' not found", name);
    return db;
}

/* References to all bitmaps of `list` (may be NULL) into `found`. */
static int find_bitmaps(struct server *s, const struct export_options *o, JsonArray *list,
                        GPtrArray *found, GError **err)
{
    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *element = json_array_get_element(list, i);
        struct dirty_bitmap *db =
            JSON_NODE_HOLDS_VALUE(element)
                ? find_by_name(o->node, o->writable, json_node_get_string(element), err)
                : find_by_node(s, json_node_get_object(element), err);

        if (!db)
            return -1;
        g_ptr_array_add(found, db);
    }
    return 0;
}

/* Which clients may use the export: `names` gets the list, if there is one. The list is refused
 * where the server could not obey it. */
static int find_tls(const struct control_nbd *nbd, JsonObject *args, struct export_options *o,
                    GPtrArray *names, GError **err)
{
    JsonArray *list = arg_list(args, "tls-authz");

    o->tls_required = arg_bool(args, "tls-required", list);
    if (o->tls_required && !nbd->tls(nbd->opaque))
        return fail(err, "This server has no TLS: start it with --tls");
    if (!list)
        return 0;
    if (!o->tls_required)
        return fail(err, "Parameter 'tls-authz' is unexpected");
    if (!nbd->tls_names_clients(nbd->opaque))
        return fail(err, "TLS clients of this server do not prove who they are: start it with "
                         "--tls-verify-peer or --tls-psk");
    for (guint i = 0; i < json_array_get_length(list); i++)
        g_ptr_array_add(names, (gpointer)json_array_get_string_element(list, i));
    g_ptr_array_add(names, NULL);
    o->tls_authz = (const char *const *)names->pdata;
    return 0;
}

/* server_export_add checks once more; here it is the order of QEMU's checks that matters. */
static int add_export(struct qmp_call *call, JsonObject *args, GError **err)
{
    g_autoptr(GPtrArray) bitmaps = dirty_bitmap_array_new();
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    struct control *c = call_control(call);
    struct server *s = call_server(call);
    struct export_options o = {
        .id = arg_string(args, "id"),
        .name = arg_string(args, "name"),
        .description = arg_string(args, "description"),
        .writable = arg_bool(args, "writable", false),
        .discard = arg_bool(args, "discard", false),
    };

    if (server_export_check_id(s, o.id, err) < 0)
        return -1;
    o.node = control_lookup_device(s, NULL, arg_string(args, "node-name"), err);
    if (!o.node)
        return -1;
    if (o.writable && node_is_readonly(o.node))
        return fail(err, "Cannot export read-only node as writable");
    if (o.discard && !node_to_view(o.node))
        return fail(err, "Parameter 'discard' is unexpected");
    if (!c->nbd.any_running(c->nbd.opaque))
        return fail(err, "NBD server not running");
    if (find_tls(&c->nbd, args, &o, names, err) < 0)
        return -1;
    if (!o.name)
        o.name = o.node->name;
    if (server_export_check_name(s, o.name, o.description, !control_nbd_started(c), err) < 0 ||
        find_bitmaps(s, &o, arg_list(args, "bitmaps"), bitmaps, err) < 0)
        return -1;
    o.bitmaps = (struct dirty_bitmap **)bitmaps->pdata;
    o.n_bitmaps = bitmaps->len;
    return server_export_add(s, &o, err);
}

/* The disks of the node and of the bitmaps. */
static void disks_of_export(struct qmp_call *call, GPtrArray *disks)
{
    JsonArray *list = arg_list(call->args, "bitmaps");
    struct server *s = call_server(call);

    control_add_disk(s, arg_string(call->args, "node-name"), disks);
    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *element = json_array_get_element(list, i);

        if (JSON_NODE_HOLDS_OBJECT(element))
            control_add_disk(s, arg_string(json_node_get_object(element), "node"), disks);
    }
}

static void add_in_turn(struct qmp_call *call, struct turn *turn)
{
    GError *error = NULL;

    add_export(call, call->args, &error);
    control_end_turn(call, turn, error);
}

/* A transaction that is not done may be about to remove what the export is to use. */
static void block_export_add(struct qmp_call *call, JsonObject *args)
{
    control_run_in_turn(call, disks_of_export, add_in_turn);
}

static void export_deleted(void *call, const GError *error)
{
    if (error)
        qmp_call_fail(call, error);
    else
        qmp_call_return(call, NULL);
}

static void block_export_del(struct qmp_call *call, JsonObject *args)
{
    const char *mode = arg_string(args, "mode");

    server_export_del(call_server(call), arg_string(args, "id"), mode && strcmp(mode, "hard") == 0,
                      export_deleted, call);
}

static int query_block_exports(struct qmp_call *call, JsonObject *args, JsonNode **value,
                               GError **err)
{
    g_autoptr(GArray) exports = server_exports(call_server(call));
    JsonArray *list = json_array_new();

    for (guint i = 0; i < exports->len; i++) {
        const struct export_status *e = &g_array_index(exports, struct export_status, i);
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "id", e->info->id);
        json_object_set_string_member(o, "type", "nbd");
        json_object_set_string_member(o, "node-name", e->info->node->name);
        json_object_set_boolean_member(o, "shutting-down", e->shutting_down);
        json_array_add_object_element(list, o);
    }
    *value = qmp_array(list);
    return 0;
}

/* clang-format off */
const struct qmp_command export_commands[] = {
    {"block-export-add", "Adds an export.",
     block_export_add_args, .start = block_export_add},
    {"block-export-del", "Removes an export.",
     block_export_del_args, .start = block_export_del},
    {"query-block-exports", "Returns the exports that were added, the newest first.",
     no_args, .run = query_block_exports},
    {.name = NULL},
};
/* clang-format on */
