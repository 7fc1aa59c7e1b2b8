/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nodes as QEMU shows them: query-block, query-named-block-nodes; and block_resize.
 */
#include "common/util/error.h"
#include "server/control/control-private.h"
#include "server/disk/resize.h"

#include <sys/stat.h>

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
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonObject *describe_image(struct node *n, const char *filename, const char *format)
{
    JsonObject *o = json_object_new();
    struct stat st;

    json_object_set_string_member(o, "filename", filename);
    json_object_set_string_member(o, "format", format);
    json_object_set_int_member(o, "virtual-size", (gint64)node_size(n));
    if (filename[0] && stat(filename, &st) == 0 && S_ISREG(st.st_mode))
        json_object_set_int_member(o, "actual-size", (gint64)st.st_blocks * 512);
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

/* What the bytes that a disk shows are: plugins serve them as they are to be read. Clients choose
 * by this word how to open a copy of them. */
static const char disk_format[] = "raw";

/* A view shows the driver name that QEMU has for a point-in-time image, and no file name: opening
 * the disk's file would not give what the view gives. No `children`: QEMU 10.0 has none, and
 * clients that know them from later versions would put bitmaps on the first one. */
static JsonObject *describe_node(struct node *n)
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
    json_object_set_object_member(o, "image", describe_image(n, filename, driver));
    add_constants(o);
    if (d) {
        g_autoptr(GPtrArray) bitmaps = disk_bitmaps(d);

        if (bitmaps->len > 0)
            json_object_set_array_member(o, "dirty-bitmaps", describe_bitmaps(bitmaps));
    }
    return o;
}

/* ---- commands ---- */

/* A disk is what QEMU calls a device: it gives `device` and `qdev` the disk's name. */
static int query_block(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    g_autoptr(GPtrArray) disks = server_disks(call_server(call));
    JsonArray *list = json_array_new();

    for (guint i = 0; i < disks->len; i++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "device", disk_name(disks->pdata[i]));
        json_object_set_string_member(o, "qdev", disk_name(disks->pdata[i]));
        json_object_set_string_member(o, "type", "unknown");
        json_object_set_boolean_member(o, "removable", FALSE);
        json_object_set_boolean_member(o, "locked", FALSE);
        json_object_set_object_member(o, "inserted", describe_node(disk_node(disks->pdata[i])));
        json_array_add_object_element(list, o);
    }
    *value = qmp_array(list);
    return 0;
}

/* `flat` leaves out backing images: we have none. */
static int query_named_block_nodes(struct qmp_call *call, JsonObject *args, JsonNode **value,
                                   GError **err)
{
    g_autoptr(GPtrArray) disks = server_disks(call_server(call));
    g_autoptr(GPtrArray) views = server_views(call_server(call));
    JsonArray *list = json_array_new();

    for (guint i = 0; i < disks->len; i++)
        json_array_add_object_element(list, describe_node(disk_node(disks->pdata[i])));
    for (guint i = 0; i < views->len; i++)
        json_array_add_object_element(list, describe_node(view_node(views->pdata[i])));
    *value = qmp_array(list);
    return 0;
}

static int block_resize(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    struct node *n = control_lookup_device(call_server(call), arg_string(args, "device"),
                                           arg_string(args, "node-name"), err);
    int64_t size = arg_int(args, "size", 0);

    if (!n)
        return -1;
    if (size < 0)
        return fail(err, "Parameter 'size' expects a >0 size");
    if (node_is_readonly(n))
        return fail(err, "Image is read-only");
    if ((uint64_t)size < node_size(n)) /* refused while a client is connected */
        server_wait_hung_up(call_server(call), n);
    return disk_resize(node_to_disk(n), (uint64_t)size, err);
}

/* clang-format off */
const struct qmp_command node_commands[] = {
    {"query-block", "Returns the disks, as QEMU shows devices.",
     no_args, .run = query_block},
    {"query-named-block-nodes", "Returns the disks and views with all that QEMU tells of a node.",
     query_named_block_nodes_args, .run = query_named_block_nodes},
    {"block_resize", "Changes the size of a disk.",
     block_resize_args, .run = block_resize},
    {.name = NULL},
};
/* clang-format on */
