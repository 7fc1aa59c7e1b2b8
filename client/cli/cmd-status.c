/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl status and disks: what the server is and what it looks after. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/table.h"
#include "client/qmp/backups.h"
#include "common/base/size.h"
#include "common/json/value.h"

#include <inttypes.h>

/* ---- status ---- */

/* The server's answers, and what is counted in them. */
struct status {
    JsonNode *name_reply, *state_reply, *exports_reply, *servers_reply, *stats_reply;
    JsonNode *checkpoints_reply, *sessions_reply;
    inventory *inventory;
    GArray *sockets; /* struct nbd_socket */
    GArray *disk_io; /* struct disk_io */
    GArray *checkpoints, *all_sessions;

    const char *package, *name, *state; /* borrowed; name may be NULL */
    guint exports, recording, bitmaps, broken, sessions;
    uint64_t disk_bytes, scratch_bytes;
};

static void status_clear(struct status *s)
{
    g_clear_pointer(&s->name_reply, json_node_unref);
    g_clear_pointer(&s->state_reply, json_node_unref);
    g_clear_pointer(&s->exports_reply, json_node_unref);
    g_clear_pointer(&s->servers_reply, json_node_unref);
    g_clear_pointer(&s->inventory, inventory_free);
    g_clear_pointer(&s->stats_reply, json_node_unref);
    g_clear_pointer(&s->checkpoints_reply, json_node_unref);
    g_clear_pointer(&s->sessions_reply, json_node_unref);
    g_clear_pointer(&s->sockets, g_array_unref);
    g_clear_pointer(&s->checkpoints, g_array_unref);
    g_clear_pointer(&s->all_sessions, g_array_unref);
    g_clear_pointer(&s->disk_io, g_array_unref);
}

/* Run a query that replies with one object. */
static JsonObject *ask_object(struct client *c, const char *command, JsonNode **reply, GError **err)
{
    *reply = client_command(c, command, NULL, err);
    if (!*reply)
        return NULL;
    if (!JSON_NODE_HOLDS_OBJECT(*reply)) {
        client_fail(err, CLIENT_ERROR_FAILED, "the server's answer to %s is not an object",
                    command);
        return NULL;
    }
    return json_node_get_object(*reply);
}

static const char *or_unknown(const char *text)
{
    return text ? text : "unknown";
}

static int ask_server(struct client *c, struct status *s, GError **err)
{
    JsonObject *name = ask_object(c, "query-name", &s->name_reply, err);
    JsonObject *state = name ? ask_object(c, "query-status", &s->state_reply, err) : NULL;

    if (!state)
        return -1;
    s->package = or_unknown(json_member_string(qmp_version(c->qmp), "package"));
    s->name = json_member_string(name, "name");
    s->state = or_unknown(json_member_string(state, "status"));
    return 0;
}

static int ask_exports(struct client *c, struct status *s, GError **err)
{
    static const char command[] = "query-block-exports";
    JsonArray *list;

    s->exports_reply = client_command(c, command, NULL, err);
    list = s->exports_reply ? inventory_list(s->exports_reply, command, err) : NULL;
    if (!list)
        return -1;
    s->exports = json_array_get_length(list);
    s->sockets = inventory_nbd_sockets(c->qmp, &s->servers_reply, err);
    s->disk_io = s->sockets ? inventory_disk_io(c->qmp, &s->stats_reply, err) : NULL;
    return s->disk_io ? 0 : -1;
}

static int ask_backups(struct client *c, struct status *s, GError **err)
{
    s->checkpoints = checkpoints_get(c->qmp, &s->checkpoints_reply, err);
    s->all_sessions = s->checkpoints ? sessions_get(c->qmp, &s->sessions_reply, err) : NULL;
    return s->all_sessions ? 0 : -1;
}

static void count(struct status *s)
{
    const inventory *i = s->inventory;

    for (guint d = 0; d < i->disks->len; d++) {
        const struct disk_entry *disk = &g_array_index(i->disks, struct disk_entry, d);

        s->disk_bytes += disk->size;
        s->bitmaps += disk->bitmaps->len;
        for (guint b = 0; b < disk->bitmaps->len; b++)
            s->recording += g_array_index(disk->bitmaps, struct bitmap_entry, b).recording;
    }
    for (guint v = 0; v < i->views->len; v++) {
        s->broken += g_array_index(i->views, struct view_entry, v).broken;
        s->scratch_bytes += g_array_index(i->views, struct view_entry, v).scratch;
    }
    for (guint n = 0; n < s->all_sessions->len; n++)
        s->sessions += g_array_index(s->all_sessions, struct session_entry, n).active;
}

static void append_counts(struct client *c, const char *what, guint all, guint some,
                          const char *which)
{
    if (some > 0)
        client_print_row(c, what, "%u, of which %u %s", all, some, which);
    else
        client_print_row(c, what, "%u", all);
}

static void print_disk_io(struct client *c, const struct status *s)
{
    for (guint n = 0; n < s->disk_io->len; n++) {
        const struct disk_io *io = &g_array_index(s->disk_io, struct disk_io, n);
        char read[16], written[16];

        client_print_row(c, "disk", "%s: %s read, %s written, %" PRIu64 " errors", io->name,
                         size_format(io->read, read), size_format(io->written, written),
                         io->errors);
    }
}

static void print_status(struct client *c, const struct status *s)
{
    const inventory *i = s->inventory;
    char size[16], scratch[16];

    client_print_row(c, "server", "%s", s->package);
    if (s->name)
        client_print_row(c, "name", "%s", s->name);
    client_print_row(c, "state", "%s", s->state);
    client_print_row(c, "disks", "%u, together %s", i->disks->len,
                     size_format(s->disk_bytes, size));
    append_counts(c, "bitmaps", s->bitmaps, s->recording, "recording");
    client_print_row(c, "checkpoints", "%u", s->checkpoints->len);
    append_counts(c, "views", i->views->len, s->broken, "broken");
    client_print_row(c, "sessions", "%u", s->sessions);
    client_print_row(c, "exports", "%u besides the disks' own", s->exports);
    client_print_row(c, "scratch", "%s used", size_format(s->scratch_bytes, scratch));
    for (guint n = 0; n < s->sockets->len; n++) {
        const struct nbd_socket *socket = &g_array_index(s->sockets, struct nbd_socket, n);

        client_print_row(c, "nbd", "%s%s", socket->uri,
                         socket->live ? "" : "  (only exports that were added)");
    }
    print_disk_io(c, s);
}

static void print_sockets_json(JsonBuilder *b, const char *member, const struct status *s,
                               bool live)
{
    json_builder_set_member_name(b, member);
    json_builder_begin_array(b);
    for (guint n = 0; n < s->sockets->len; n++) {
        const struct nbd_socket *socket = &g_array_index(s->sockets, struct nbd_socket, n);

        if (socket->live == live)
            json_builder_add_string_value(b, socket->uri);
    }
    json_builder_end_array(b);
}

static void print_disk_io_json(JsonBuilder *b, const struct status *s)
{
    json_builder_set_member_name(b, "io");
    json_builder_begin_array(b);
    for (guint n = 0; n < s->disk_io->len; n++) {
        const struct disk_io *io = &g_array_index(s->disk_io, struct disk_io, n);

        json_builder_begin_object(b);
        json_add_string(b, "disk", io->name);
        json_add_size(b, "read-bytes", io->read);
        json_add_size(b, "written-bytes", io->written);
        json_add_size(b, "errors", io->errors);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void print_status_json(struct client *c, const struct status *s)
{
    const inventory *i = s->inventory;
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_add_string(b, "server", s->package);
    json_add_string(b, "name", s->name);
    json_add_string(b, "state", s->state);
    json_add_size(b, "disks", i->disks->len);
    json_add_size(b, "disk-bytes", s->disk_bytes);
    json_add_size(b, "bitmaps", s->bitmaps);
    json_add_size(b, "bitmaps-recording", s->recording);
    json_add_size(b, "checkpoints", s->checkpoints->len);
    json_add_size(b, "sessions", s->sessions);
    json_add_size(b, "views", i->views->len);
    json_add_size(b, "views-broken", s->broken);
    json_add_size(b, "exports", s->exports);
    json_add_size(b, "scratch-bytes", s->scratch_bytes);
    print_sockets_json(b, "nbd", s, true);
    print_sockets_json(b, "nbd-added", s, false);
    print_disk_io_json(b, s);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

static int run_status(struct client *c, const void *options, char **args, GError **err)
{
    struct status s = {0};
    int result = ask_server(c, &s, err);

    if (result == 0) {
        s.inventory = client_inventory(c, err);
        result = s.inventory ? ask_exports(c, &s, err) : -1;
    }
    if (result == 0)
        result = ask_backups(c, &s, err);
    if (result == 0) {
        count(&s);
        if (c->json)
            print_status_json(c, &s);
        else
            print_status(c, &s);
    }
    status_clear(&s);
    return result;
}

const struct command cmd_status = {
    .name = "status",
    .synopsis = "",
    .summary = "what the server is and how much it looks after",
    .run = run_status,
};

/* ---- disks ---- */

static guint views_of(const inventory *i, const char *disk)
{
    guint n = 0;

    for (guint v = 0; v < i->views->len; v++)
        n += g_strcmp0(g_array_index(i->views, struct view_entry, v).disk, disk) == 0;
    return n;
}

static void print_disks(struct client *c, const inventory *i)
{
    static const char *const headers[] = {"NAME",     ">SIZE",  "DRIVER", "ACCESS",
                                          ">BITMAPS", ">VIEWS", "FILE",   NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint d = 0; d < i->disks->len; d++) {
        const struct disk_entry *disk = &g_array_index(i->disks, struct disk_entry, d);

        table_add(t, disk->name);
        table_add_size(t, disk->size);
        table_add(t, disk->driver);
        table_add(t, disk->readonly ? "ro" : "rw");
        table_add_number(t, disk->bitmaps->len);
        table_add_number(t, views_of(i, disk->name));
        table_add(t, disk->file);
    }
    table_print(t, c->out);
}

static void print_disks_json(struct client *c, const inventory *i)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_array(b);
    for (guint d = 0; d < i->disks->len; d++) {
        const struct disk_entry *disk = &g_array_index(i->disks, struct disk_entry, d);

        json_builder_begin_object(b);
        json_add_string(b, "name", disk->name);
        json_add_size(b, "size", disk->size);
        json_add_string(b, "driver", disk->driver);
        json_add_string(b, "file", disk->file);
        json_add_bool(b, "read-only", disk->readonly);
        json_add_size(b, "bitmaps", disk->bitmaps->len);
        json_add_size(b, "views", views_of(i, disk->name));
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    client_print_builder(c, b);
}

static int run_disks(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(inventory) i = client_inventory(c, err);

    if (!i)
        return -1;
    if (c->json)
        print_disks_json(c, i);
    else
        print_disks(c, i);
    return 0;
}

const struct command cmd_disks = {
    .name = "disks",
    .synopsis = "",
    .summary = "the disks, with their bitmaps and views counted",
    .run = run_disks,
};
