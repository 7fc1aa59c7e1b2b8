/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checkpoints, our own commands: checkpoint-create (also as an action), checkpoint-delete,
 * query-checkpoints.
 */
#include "common/util/error.h"
#include "server/backup/backup.h"
#include "server/control/control-private.h"
#include "server/control/in-turn.h"
#include "server/control/transaction.h"
#include "server/control/wall-time.h"
#include "server/registry/commit.h"

static const struct arg disk_arg = {.type = ARG_STRING};
static const struct arg checkpoint_create_args[] = {
    ARG("name", ARG_STRING),
    ARG_OPT("disks", ARG_LIST, .of = &disk_arg),
    ARG_OPT("description", ARG_STRING),
    ARG_OPT("granularity", ARG_UINT32),
    ARGS_END,
};
static const struct arg checkpoint_delete_args[] = {ARG("name", ARG_STRING), ARGS_END};

/* NULL: *err. Only tests have a server without backups. */
static struct checkpoints *all_checkpoints(struct backup *b, GError **err)
{
    if (!b)
        fail(err, "This server has no checkpoints");
    return b ? b->checkpoints : NULL;
}

/* ---- checkpoint-create ---- */

static void disks_of_checkpoint(struct server *s, JsonObject *data, GPtrArray *disks)
{
    JsonArray *names = arg_list(data, "disks");

    if (!names) {
        g_autoptr(GPtrArray) all = server_disks(s);

        g_ptr_array_extend(disks, all, NULL, NULL);
        return;
    }
    for (guint i = 0; i < json_array_get_length(names); i++) {
        struct disk *d = server_find_disk(s, json_array_get_string_element(names, i));

        if (d)
            g_ptr_array_add(disks, d);
    }
}

/* They are found again: all of them must be there, and once. */
static int check_disks(struct server *s, JsonArray *names, GError **err)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; names && i < json_array_get_length(names); i++) {
        const char *name = json_array_get_string_element(names, i);
        struct node *n = control_lookup_device(s, NULL, name, err);

        if (!n)
            return -1;
        if (!node_to_disk(n))
            return fail(err, "Node '%s' is not a disk", name);
        if (!g_hash_table_add(seen, (gpointer)name))
            return fail(err, "Disk '%s' is named twice", name);
    }
    return 0;
}

/* The bitmaps that the transaction removes are still there. */
static int check_bitmaps(struct transaction *t, const GPtrArray *disks, const char *name,
                         GError **err)
{
    for (guint i = 0; i < disks->len; i++)
        if (transaction_has_removed_bitmap(t, disks->pdata[i], name))
            return fail(err, "Bitmap already exists: %s", name);
    return 0;
}

static int prepare_create(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    struct checkpoints *c = all_checkpoints(transaction_backup(t), err);
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    const struct checkpoint_options options = {
        .name = arg_string(data, "name"),
        .description = arg_string(data, "description"),
        .disks = disks,
        .granularity = (uint32_t)arg_int(data, "granularity", 0),
    };

    if (!c || check_disks(transaction_server(t), arg_list(data, "disks"), err) < 0 ||
        control_check_granularity(data, err) < 0)
        return -1;
    disks_of_checkpoint(transaction_server(t), data, disks);
    if (check_bitmaps(t, disks, options.name, err) < 0)
        return -1;
    return checkpoint_stage_create(c, transaction_instant(t), &options, err);
}

static const struct action create_checkpoint = {.disks = disks_of_checkpoint,
                                                .prepare = prepare_create};

/* ---- checkpoint-delete ---- */

struct deletion {
    struct qmp_call *call;
    struct turn *turn;
};

static void deletion_ends(void *opaque, const GError *error)
{
    struct deletion *d = opaque;

    control_end_turn(d->call, d->turn, error ? g_error_copy(error) : NULL);
    g_free(d);
}

static void delete_in_turn(struct qmp_call *call, struct turn *turn)
{
    struct deletion *d = g_new(struct deletion, 1);
    struct instant *i = instant_new();
    g_autoptr(GError) error = NULL;
    struct checkpoints *c = all_checkpoints(call_backup(call), &error);

    *d = (struct deletion){.call = call, .turn = turn};
    if (c && checkpoint_stage_delete(c, i, arg_string(call->args, "name"), NULL,
                                     "checkpoint-delete", &error) == 0) {
        server_commit(call_server(call), i, deletion_ends, d);
        return;
    }
    instant_abort(i);
    deletion_ends(d, error);
}

static void disks_of_deleted(struct qmp_call *call, GPtrArray *disks)
{
    struct checkpoints *c = all_checkpoints(call_backup(call), NULL);

    if (c)
        checkpoint_disks(c, arg_string(call->args, "name"), disks);
}

static void delete_checkpoint(struct qmp_call *call, JsonObject *args)
{
    control_run_in_turn(call, disks_of_deleted, delete_in_turn);
}

/* ---- query-checkpoints ---- */

/*
 * To count the bits of a large bitmap takes a millisecond or more, and there may be thousands of
 * bitmaps. So each is counted in an iteration of the main loop of its own.
 */
struct query {
    struct qmp_call *call;
    JsonArray *list;
    GPtrArray *bitmaps; /* that are to be counted */
    GPtrArray *shown;   /* JsonObject of the list, borrowed: where to show what of each */
};

static gboolean count_next(void *opaque)
{
    struct query *q = opaque;
    struct dirty_bitmap_info info;
    guint last = q->bitmaps->len;

    if (last == 0) {
        qmp_call_return(q->call, qmp_array(q->list));
        g_ptr_array_unref(q->bitmaps);
        g_ptr_array_unref(q->shown);
        g_free(q);
        return G_SOURCE_REMOVE;
    }
    last--;
    dirty_bitmap_info(q->bitmaps->pdata[last], &info);
    json_object_set_int_member(q->shown->pdata[last], "granularity", info.granularity);
    if (!info.inconsistent)
        json_object_set_int_member(q->shown->pdata[last], "dirty-bytes", (gint64)info.count);
    g_ptr_array_set_size(q->bitmaps, (gint)last);
    return G_SOURCE_CONTINUE;
}

static JsonObject *describe_part(struct query *q, const struct checkpoint_disk *part)
{
    JsonObject *o = json_object_new();
    g_autofree char *why = NULL;
    struct dirty_bitmap *db = checkpoint_bitmap(part, &why);

    json_object_set_string_member(o, "disk", part->name);
    json_object_set_string_member(o, "bitmap", part->bitmap);
    json_object_set_boolean_member(o, "valid", !why);
    if (why)
        json_object_set_string_member(o, "reason", why);
    if (db) {
        g_ptr_array_add(q->bitmaps, db);
        g_ptr_array_add(q->shown, o);
    }
    return o;
}

static JsonObject *describe_checkpoint(struct query *q, const struct checkpoint_info *info)
{
    JsonObject *o = json_object_new();
    g_autofree char *time = wall_time(info->time_usec);
    JsonArray *disks = json_array_new();

    json_object_set_string_member(o, "name", info->name);
    if (info->description)
        json_object_set_string_member(o, "description", info->description);
    if (info->parent)
        json_object_set_string_member(o, "parent", info->parent);
    json_object_set_string_member(o, "time", time);
    for (guint i = 0; i < info->disks->len; i++)
        json_array_add_object_element(
            disks, describe_part(q, &g_array_index(info->disks, struct checkpoint_disk, i)));
    json_object_set_array_member(o, "disks", disks);
    return o;
}

static void query_checkpoints(struct qmp_call *call, JsonObject *args)
{
    struct checkpoints *c = all_checkpoints(call_backup(call), NULL);
    g_autoptr(GArray) all = c ? checkpoints_list(c) : NULL;
    struct query *q = g_new0(struct query, 1);

    q->call = call;
    q->list = json_array_new();
    q->bitmaps = dirty_bitmap_array_new();
    q->shown = g_ptr_array_new();
    for (guint i = 0; all && i < all->len; i++)
        json_array_add_object_element(
            q->list, describe_checkpoint(q, &g_array_index(all, struct checkpoint_info, i)));
    g_idle_add_full(G_PRIORITY_DEFAULT, count_next, q, NULL);
}

/* clang-format off */
const struct qmp_command checkpoint_commands[] = {
    {"checkpoint-create", "Makes a checkpoint of some disks.",
     checkpoint_create_args, .start = transaction_of_one, .action = &create_checkpoint},
    {"checkpoint-delete", "Deletes a checkpoint, and its bitmaps.",
     checkpoint_delete_args, .start = delete_checkpoint},
    {"query-checkpoints", "Returns the checkpoints, oldest first.",
     no_args, .start = query_checkpoints},
    {.name = NULL},
};
/* clang-format on */
