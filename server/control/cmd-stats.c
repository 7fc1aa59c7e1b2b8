/* SPDX-License-Identifier: BSD-3-Clause */
/* query-blockstats: how much clients have asked of disks and views, in QEMU's shape. */
#include "server/control/control-private.h"
#include "server/disk/node-stats.h"

static const struct arg query_blockstats_args[] = {
    ARG_OPT("query-nodes", ARG_BOOL),
    ARGS_END,
};

/* QEMU's names for a kind of requests: PREFIX_operations, PREFIX_bytes, failed_PREFIX_operations.
 * `also` is counted there too: writes of zeroes are writes. */
struct row {
    const char *prefix;
    bool has_bytes;
    enum io_kind kind, also;
};

static const struct row rows[] = {
    {"rd", true, IO_READ, IO_READ},       {"wr", true, IO_WRITE, IO_ZERO},
    {"unmap", true, IO_TRIM, IO_TRIM},    {"zero", true, IO_ZERO, IO_ZERO},
    {"flush", false, IO_FLUSH, IO_FLUSH},
};

static void set(JsonObject *o, const char *before, const char *prefix, const char *behind,
                uint64_t value)
{
    g_autofree char *name = g_strconcat(before, prefix, behind, NULL);

    json_object_set_int_member(o, name, (gint64)value);
}

static void add_row(JsonObject *o, const struct row *r, const struct io_stats *s)
{
    uint64_t operations = s->done[r->kind].operations, bytes = s->done[r->kind].bytes;
    uint64_t failed = s->failed[r->kind];

    if (r->also != r->kind) {
        operations += s->done[r->also].operations;
        bytes += s->done[r->also].bytes;
        failed += s->failed[r->also];
    }
    set(o, "", r->prefix, "_operations", operations);
    if (r->has_bytes)
        set(o, "", r->prefix, "_bytes", bytes);
    set(o, "failed_", r->prefix, "_operations", failed);
}

/* What QEMU always has and we do not measure. */
static void add_constants(JsonObject *o)
{
    static const char *const zeroes[] = {"rd_total_time_ns",
                                         "wr_total_time_ns",
                                         "flush_total_time_ns",
                                         "unmap_total_time_ns",
                                         "rd_merged",
                                         "wr_merged",
                                         "unmap_merged",
                                         "invalid_rd_operations",
                                         "invalid_wr_operations",
                                         "invalid_flush_operations",
                                         "invalid_unmap_operations",
                                         "zone_append_bytes",
                                         "zone_append_operations",
                                         "zone_append_total_time_ns",
                                         "zone_append_merged",
                                         "failed_zone_append_operations",
                                         "invalid_zone_append_operations",
                                         NULL};

    for (const char *const *name = zeroes; *name; name++)
        json_object_set_int_member(o, *name, 0);
    json_object_set_boolean_member(o, "account_invalid", FALSE);
    json_object_set_boolean_member(o, "account_failed", FALSE);
    json_object_set_array_member(o, "timed_stats", json_array_new());
}

static JsonObject *describe_stats(struct node *n)
{
    JsonObject *o = json_object_new();
    struct io_stats s;

    node_stats(n, &s);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        add_row(o, &rows[i], &s);
    json_object_set_int_member(o, "wr_highest_offset", (gint64)s.write_end);
    add_constants(o);
    return o;
}

/* With `device`, a disk's name: it is shown as QEMU shows a device. */
static void add_node(JsonArray *list, struct node *n, const char *device)
{
    JsonObject *o = json_object_new();

    if (device) {
        json_object_set_string_member(o, "device", device);
        json_object_set_string_member(o, "qdev", device);
    }
    json_object_set_string_member(o, "node-name", n->name);
    json_object_set_object_member(o, "stats", describe_stats(n));
    json_array_add_object_element(list, o);
}

static int query_blockstats(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    g_autoptr(GPtrArray) disks = server_disks(call_server(call));
    g_autoptr(GPtrArray) views = server_views(call_server(call));
    bool all = arg_bool(args, "query-nodes", false);
    JsonArray *list = json_array_new();

    for (guint i = 0; i < disks->len; i++)
        add_node(list, disk_node(disks->pdata[i]), all ? NULL : disk_name(disks->pdata[i]));
    for (guint i = 0; all && i < views->len; i++)
        add_node(list, view_node(views->pdata[i]), NULL);
    *value = qmp_array(list);
    return 0;
}

/* clang-format off */
const struct qmp_command stats_commands[] = {
    {"query-blockstats", "Returns how much clients have read, written, trimmed and flushed.",
     query_blockstats_args, .run = query_blockstats},
    {.name = NULL},
};
/* clang-format on */
