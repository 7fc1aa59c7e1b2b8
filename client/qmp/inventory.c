/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/qmp/inventory.h"
#include "client/base/error.h"
#include "common/json/value.h"

#include <string.h>

/* Most names that an error lists. */
#define LISTED_MAX 10

JsonArray *inventory_list(JsonNode *reply, const char *command, GError **err)
{
    JsonArray *list = JSON_NODE_HOLDS_ARRAY(reply) ? json_node_get_array(reply) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        if (!JSON_NODE_HOLDS_OBJECT(json_array_get_element(list, i)))
            list = NULL;
    }
    if (!list)
        client_fail(err, CLIENT_ERROR_FAILED, "the server's answer to %s is not a list of objects",
                    command);
    return list;
}

const char *inventory_required(JsonObject *object, const char *member, const char *command,
                               GError **err)
{
    const char *text = json_member_string(object, member);

    if (!text)
        client_fail(err, CLIENT_ERROR_FAILED, "the server's answer to %s lacks '%s'", command,
                    member);
    return text;
}

static int read_bitmaps(struct disk_entry *disk, JsonArray *list, const char *command, GError **err)
{
    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonNode *node = json_array_get_element(list, i);
        struct bitmap_entry b = {0};
        JsonObject *o;

        if (!JSON_NODE_HOLDS_OBJECT(node))
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "the server's answer to %s has a bitmap that is no object", command);
        o = json_node_get_object(node);
        b.name = inventory_required(o, "name", command, err);
        if (!b.name)
            return -1;
        b.count = json_member_size(o, "count");
        b.granularity = json_member_size(o, "granularity");
        b.recording = json_member_bool(o, "recording");
        b.busy = json_member_bool(o, "busy");
        b.persistent = json_member_bool(o, "persistent");
        b.inconsistent = json_member_bool(o, "inconsistent");
        b.inconsistent_reason = json_member_string(o, "inconsistent-reason");
        b.checkpoint = json_member_string(o, "checkpoint");
        g_array_append_val(disk->bitmaps, b);
    }
    return 0;
}

static void clear_disk(void *data)
{
    struct disk_entry *disk = data;

    g_array_unref(disk->bitmaps);
}

static bool is_view(const inventory *i, const char *name)
{
    for (guint n = 0; n < i->views->len; n++) {
        if (strcmp(g_array_index(i->views, struct view_entry, n).name, name) == 0)
            return true;
    }
    return false;
}

/* Read a BlockDeviceInfo. A view is a node too, and is skipped. */
static int read_node(inventory *i, JsonObject *o, const char *command, GError **err)
{
    struct disk_entry disk = {.name = inventory_required(o, "node-name", command, err)};
    JsonObject *image = json_member_object(o, "image");
    JsonArray *bitmaps = json_member_array(o, "dirty-bitmaps");

    if (!disk.name)
        return -1;
    /* One that was made since the views were asked for is told by its driver. */
    if (is_view(i, disk.name) || g_strcmp0(json_member_string(o, "drv"), "snapshot-access") == 0)
        return 0;
    disk.driver = json_member_string(o, "plugin");
    if (!disk.driver)
        disk.driver = json_member_string(o, "drv"); /* another server's: QEMU's word for it */
    disk.file = json_member_string(o, "file");
    disk.size = image ? json_member_size(image, "virtual-size") : 0;
    disk.readonly = json_member_bool(o, "ro");
    disk.bitmaps = g_array_new(FALSE, FALSE, sizeof(struct bitmap_entry));
    g_array_append_val(i->disks, disk);
    return bitmaps ? read_bitmaps(&disk, bitmaps, command, err) : 0;
}

static int read_view(inventory *i, JsonObject *o, const char *command, GError **err)
{
    struct view_entry v = {
        .name = inventory_required(o, "name", command, err),
        .disk = json_member_string(o, "disk"),
        .on_cbw_error = json_member_string(o, "on-cbw-error"),
        .reason = json_member_string(o, "reason"),
        .size = json_member_size(o, "size"),
        .scratch = json_member_size(o, "scratch-bytes"),
        .scratch_limit = json_member_size(o, "scratch-limit"),
        .broken = json_member_bool(o, "broken"),
        .exported = json_member_bool(o, "in-use"),
    };
    JsonObject *instant = json_member_object(o, "instant");

    if (!v.name)
        return -1;
    if (instant)
        v.instant = (int64_t)(json_member_size(instant, "seconds") % (1ull << 40) * 1000000 +
                              json_member_size(instant, "microseconds") % 1000000);
    g_array_append_val(i->views, v);
    return 0;
}

/* Run a query and give each object of its list to `read`. */
static int query(struct qmp *q, inventory *i, const char *command, JsonNode **reply,
                 int (*read)(inventory *, JsonObject *, const char *, GError **), GError **err)
{
    JsonArray *list;

    *reply = qmp_command(q, command, NULL, err);
    if (!*reply)
        return -1;
    list = inventory_list(*reply, command, err);
    if (!list)
        return -1;
    for (guint n = 0; n < json_array_get_length(list); n++) {
        if (read(i, json_array_get_object_element(list, n), command, err) < 0)
            return -1;
    }
    return 0;
}

inventory *inventory_get(struct qmp *q, GError **err)
{
    g_autoptr(inventory) i = g_new0(inventory, 1);

    i->disks = g_array_new(FALSE, FALSE, sizeof(struct disk_entry));
    i->views = g_array_new(FALSE, FALSE, sizeof(struct view_entry));
    g_array_set_clear_func(i->disks, clear_disk);
    /* Views first: they tell which nodes are not disks. */
    if (query(q, i, "query-views", &i->views_reply, read_view, err) < 0 ||
        query(q, i, "query-named-block-nodes", &i->nodes_reply, read_node, err) < 0)
        return NULL;
    return g_steal_pointer(&i);
}

void inventory_free(inventory *i)
{
    g_array_unref(i->disks);
    g_array_unref(i->views);
    g_clear_pointer(&i->nodes_reply, json_node_unref);
    g_clear_pointer(&i->views_reply, json_node_unref);
    g_free(i);
}

const struct disk_entry *inventory_find_disk(const inventory *i, const char *name, GError **err)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint n = 0; n < i->disks->len; n++) {
        const struct disk_entry *disk = &g_array_index(i->disks, struct disk_entry, n);

        if (strcmp(disk->name, name) == 0)
            return disk;
        if (n < LISTED_MAX)
            g_string_append_printf(names, "%s%s", n > 0 ? ", " : "", disk->name);
    }
    if (i->disks->len > LISTED_MAX)
        g_string_append_printf(names, " and %u more", i->disks->len - LISTED_MAX);
    client_fail(err, CLIENT_ERROR_FAILED, "disk %s: no such disk; the server has %s", name,
                names->len > 0 ? names->str : "none");
    return NULL;
}

static bool has_socket(const GArray *sockets, const struct nbd_socket *wanted)
{
    for (guint i = 0; i < sockets->len; i++) {
        const struct nbd_socket *s = &g_array_index(sockets, struct nbd_socket, i);

        if (s->live == wanted->live && strcmp(s->uri, wanted->uri) == 0)
            return true;
    }
    return false;
}

GArray *inventory_nbd_sockets(struct qmp *q, JsonNode **reply, GError **err)
{
    static const char command[] = "query-nbd-servers";
    JsonArray *list;
    GArray *sockets;

    *reply = qmp_command(q, command, NULL, err);
    list = *reply ? inventory_list(*reply, command, err) : NULL;
    if (!list)
        return NULL;
    sockets = g_array_new(FALSE, FALSE, sizeof(struct nbd_socket));
    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonObject *o = json_array_get_object_element(list, i);
        /* A server that does not say so serves all exports everywhere. */
        struct nbd_socket socket = {
            .uri = json_member_string(o, "uri"),
            .live = !json_object_has_member(o, "live") || json_member_bool(o, "live"),
        };

        if (socket.uri && !has_socket(sockets, &socket))
            g_array_append_val(sockets, socket);
    }
    return sockets;
}

/* All that failed, of whatever kind: a write of zeroes is a write, and is not counted twice. */
static uint64_t errors_of(JsonObject *stats)
{
    return json_member_size(stats, "failed_rd_operations") +
           json_member_size(stats, "failed_wr_operations") +
           json_member_size(stats, "failed_flush_operations") +
           json_member_size(stats, "failed_unmap_operations");
}

GArray *inventory_disk_io(struct qmp *q, JsonNode **reply, GError **err)
{
    static const char command[] = "query-blockstats";
    JsonArray *list;
    GArray *all;

    *reply = qmp_command(q, command, NULL, err);
    list = *reply ? inventory_list(*reply, command, err) : NULL;
    if (!list)
        return NULL;
    all = g_array_new(FALSE, FALSE, sizeof(struct disk_io));
    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonObject *o = json_array_get_object_element(list, i);
        JsonObject *stats = json_member_object(o, "stats");
        struct disk_io io = {.name = json_member_string(o, "node-name")};

        if (!io.name || !stats)
            continue;
        io.read = json_member_size(stats, "rd_bytes");
        io.written = json_member_size(stats, "wr_bytes");
        io.errors = errors_of(stats);
        g_array_append_val(all, io);
    }
    return all;
}
