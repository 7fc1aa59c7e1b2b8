/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nodes as QEMU shows them: query-block, query-named-block-nodes; and block_resize.
 */
#include "common/util/error.h"
#include "server/control/actual-size.h"
#include "server/control/control-private.h"
#include "server/control/in-turn.h"
#include "server/disk/resize.h"
#include "server/registry/commit.h"

static const struct arg query_named_block_nodes_args[] = {
    ARG_OPT("flat", ARG_BOOL),
    ARGS_END,
};
static const struct arg block_resize_args[] = {
    ARG_OPT("device", ARG_STRING),
    ARG_OPT("node-name", ARG_STRING),
    ARG("size", ARG_INT),
    ARGS_END,
};

/* ---- BlockDeviceInfo ---- */

static JsonArray *describe_bitmaps(GPtrArray *bitmaps)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < bitmaps->len; i++) {
        struct dirty_bitmap *db = bitmaps->pdata[i];
        g_autofree char *reason = dirty_bitmap_reason(db);
        JsonObject *o = json_object_new();
        struct dirty_bitmap_info info;

        dirty_bitmap_info(db, &info);
        json_object_set_string_member(o, "name", dirty_bitmap_name(db));
        json_object_set_int_member(o, "count", (gint64)info.count);
        json_object_set_int_member(o, "granularity", info.granularity);
        json_object_set_boolean_member(o, "recording", info.recording);
        json_object_set_boolean_member(o, "busy", info.busy);
        json_object_set_boolean_member(o, "persistent", info.persistent);
        json_object_set_boolean_member(o, "inconsistent", info.inconsistent);
        if (reason)
            json_object_set_string_member(o, "inconsistent-reason", reason);
        if (info.readonly)
            json_object_set_string_member(o, "checkpoint", dirty_bitmap_name(db));
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonObject *describe_image(struct control *c, struct node *n, const char *filename,
                                  const char *format)
{
    JsonObject *o = json_object_new();
    gint64 bytes;

    json_object_set_string_member(o, "filename", filename);
    json_object_set_string_member(o, "format", format);
    json_object_set_int_member(o, "virtual-size", (gint64)node_size(n));
    if (c->sizes && actual_size(c->sizes, filename, &bytes))
        json_object_set_int_member(o, "actual-size", bytes);
    return o;
}

/* What QEMU has and we do not: no throttling, no encryption, no thresholds. */
static void add_constants(JsonObject *o)
{
    static const char *const zeroes[] = {"bps",     "bps_rd",  "bps_wr",          "iops",
                                         "iops_rd", "iops_wr", "write_threshold", NULL};
    JsonObject *cache = json_object_new();

    for (const char *const *name = zeroes; *name; name++)
        json_object_set_int_member(o, *name, 0);
    json_object_set_int_member(o, "backing_file_depth", 0);
    json_object_set_boolean_member(o, "active", TRUE);
    json_object_set_boolean_member(o, "encrypted", FALSE);
    json_object_set_string_member(o, "detect_zeroes", "off");
    json_object_set_boolean_member(cache, "writeback", TRUE);
    json_object_set_boolean_member(cache, "direct", FALSE);
    json_object_set_boolean_member(cache, "no-flush", FALSE);
    json_object_set_object_member(o, "cache", cache);
}

/* The format of the bytes that a disk shows: a plugin serves them as they are to be read. By this
 * word clients choose how to open a copy of them. */
static const char disk_format[] = "raw";

/* A view shows the driver name that QEMU has for a point-in-time image, and no file name: opening
 * the disk's file would not give what the view gives. No `children`: QEMU 10.0 has none, and
 * clients that know them from later versions would put bitmaps on the first one. */
static JsonObject *describe_node(struct control *c, struct node *n)
{
    struct disk *d = node_to_disk(n);
    const char *filename = d ? disk_backend(d)->filename : "";
    const char *driver = d ? disk_format : "snapshot-access";
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "node-name", n->name);
    json_object_set_string_member(o, "drv", driver);
    if (d)
        json_object_set_string_member(o, "plugin", disk_backend(d)->driver);
    json_object_set_string_member(o, "file", filename);
    json_object_set_boolean_member(o, "ro", node_is_readonly(n));
    json_object_set_object_member(o, "image", describe_image(c, n, filename, driver));
    add_constants(o);
    if (d) {
        g_autoptr(GPtrArray) bitmaps = disk_bitmaps(d);
        const char *recovery = server_disk_recovery(c->server, d);

        if (recovery)
            json_object_set_string_member(o, "state-recovery", recovery);

        if (bitmaps->len > 0)
            json_object_set_array_member(o, "dirty-bitmaps", describe_bitmaps(bitmaps));
    }
    return o;
}

/* ---- commands ---- */

/* The call is answered by `answer` when the sizes of the disks' files are known. */
static void ask_sizes(struct qmp_call *call, void (*answer)(void *call))
{
    g_autoptr(GPtrArray) disks = server_disks(call_server(call)), paths = g_ptr_array_new();
    struct control *c = call_control(call);

    for (guint i = 0; i < disks->len; i++) {
        const char *filename = disk_backend(disks->pdata[i])->filename;

        if (filename[0])
            g_ptr_array_add(paths, (gpointer)filename);
    }
    if (paths->len == 0) {
        answer(call);
        return;
    }
    if (!c->sizes)
        c->sizes = actual_sizes_new();
    actual_sizes_refresh(c->sizes, paths, answer, call);
}

/* A disk is what QEMU calls a device: `device` and `qdev` are the disk's name. */
static void answer_query_block(void *opaque)
{
    struct qmp_call *call = opaque;
    g_autoptr(GPtrArray) disks = server_disks(call_server(call));
    JsonArray *list = json_array_new();

    for (guint i = 0; i < disks->len; i++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "device", disk_name(disks->pdata[i]));
        json_object_set_string_member(o, "qdev", disk_name(disks->pdata[i]));
        json_object_set_string_member(o, "type", "unknown");
        json_object_set_boolean_member(o, "removable", FALSE);
        json_object_set_boolean_member(o, "locked", FALSE);
        json_object_set_object_member(
            o, "inserted", describe_node(call_control(call), disk_node(disks->pdata[i])));
        json_array_add_object_element(list, o);
    }
    qmp_call_return(call, qmp_array(list));
}

static void query_block(struct qmp_call *call, JsonObject *args)
{
    ask_sizes(call, answer_query_block);
}

/* `flat` leaves out backing images: we have none. */
static void answer_query_nodes(void *opaque)
{
    struct qmp_call *call = opaque;
    struct control *c = call_control(call);
    g_autoptr(GPtrArray) disks = server_disks(call_server(call));
    g_autoptr(GPtrArray) views = server_views(call_server(call));
    JsonArray *list = json_array_new();

    for (guint i = 0; i < disks->len; i++)
        json_array_add_object_element(list, describe_node(c, disk_node(disks->pdata[i])));
    for (guint i = 0; i < views->len; i++)
        json_array_add_object_element(list, describe_node(c, view_node(views->pdata[i])));
    qmp_call_return(call, qmp_array(list));
}

static void query_named_block_nodes(struct qmp_call *call, JsonObject *args)
{
    ask_sizes(call, answer_query_nodes);
}

/* ---- block_resize ---- */

struct resize {
    struct qmp_call *call;
    struct turn *turn;
    struct disk *disk;
    uint64_t size;
};

static void resize_ends(void *opaque, const GError *error)
{
    struct resize *r = opaque;

    control_end_turn(r->call, r->turn, error ? g_error_copy(error) : NULL);
    g_free(r);
}

static void resize(void *opaque)
{
    struct resize *r = opaque;
    struct instant *i = instant_new();
    g_autoptr(GError) error = NULL;

    if (instant_resize(i, r->disk, r->size, &error) == 0) {
        server_commit(call_server(r->call), i, resize_ends, r);
        return;
    }
    instant_abort(i);
    resize_ends(r, error);
}

static struct disk *find_resizable(struct qmp_call *call, GError **err)
{
    struct node *n = control_lookup_device(call_server(call), arg_string(call->args, "device"),
                                           arg_string(call->args, "node-name"), err);

    if (!n)
        return NULL;
    if (arg_int(call->args, "size", 0) < 0)
        fail(err, "Parameter 'size' expects a >0 size");
    else if (node_is_readonly(n))
        fail(err, "Image is read-only");
    else
        return node_to_disk(n);
    return NULL;
}

static void resize_in_turn(struct qmp_call *call, struct turn *turn)
{
    GError *error = NULL;
    struct disk *d = find_resizable(call, &error);
    struct resize *r;

    if (!d) {
        control_end_turn(call, turn, error);
        return;
    }
    r = g_new(struct resize, 1);
    *r = (struct resize){
        .call = call, .turn = turn, .disk = d, .size = (uint64_t)arg_int(call->args, "size", 0)};
    if (r->size < disk_size(d)) /* refused while a client is connected */
        server_when_hung_up_left(call_server(call), disk_node(d), resize, r);
    else
        resize(r);
}

static void disks_of_resize(struct qmp_call *call, GPtrArray *disks)
{
    struct node *n = control_lookup_device(call_server(call), arg_string(call->args, "device"),
                                           arg_string(call->args, "node-name"), NULL);

    if (n)
        control_add_disk(call_server(call), n->name, disks);
}

static void block_resize(struct qmp_call *call, JsonObject *args)
{
    control_run_in_turn(call, disks_of_resize, resize_in_turn);
}

/* clang-format off */
const struct qmp_command node_commands[] = {
    {"query-block", "Returns the disks, as QEMU shows devices.",
     no_args, .start = query_block},
    {"query-named-block-nodes", "Returns the disks and views with all that QEMU tells of a node.",
     query_named_block_nodes_args, .start = query_named_block_nodes},
    {"block_resize", "Changes the size of a disk.",
     block_resize_args, .start = block_resize},
    {.name = NULL},
};
/* clang-format on */
