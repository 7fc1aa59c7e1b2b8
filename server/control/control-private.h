/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of control/ share. Commands come in families, a file each (cmd-*.c); the table of
 * all is in commands.c.
 */
#ifndef CONTROL_CONTROL_PRIVATE_H
#define CONTROL_CONTROL_PRIVATE_H

#include "common/util/log-limit.h"
#include "server/control/control.h"
#include "server/control/lookup.h"
#include "server/control/qmp.h"
#include "server/disk/instant.h"

/* What commands work on: qmp_session's context. */
struct control {
    struct server *server;
    struct control_nbd nbd;
    bool quit;                    /* the command has been given */
    struct log_limit refused;     /* monitors */
    struct log_limit lost_events; /* of monitors that read too slowly */
};

extern const struct qmp_command control_commands[];

static inline struct control *call_control(struct qmp_call *call)
{
    return call->context;
}

static inline struct server *call_server(struct qmp_call *call)
{
    return call_control(call)->server;
}

/* Append the QMP event. */
void control_format_event(GString *line, const struct server_event *event);

/* ---- actions: what a transaction is made of ---- */

/* A transaction on its way. */
struct staging {
    struct server *server;
    struct instant *instant;
    GPtrArray *names;    /* of views that it makes, reserved; owned strings */
    GHashTable *removed; /* bitmaps that it removes (cmd-bitmaps.c), a set; owned strings */
};

struct action {
    const char *type;
    const struct arg *args;
    int (*stage)(struct staging *t, JsonObject *data, GError **err);
};

extern const struct action control_actions[]; /* ends with a type of NULL */

/* A command that is one action by itself: the action of its own name. */
int control_run_action(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err);

extern const struct arg bitmap_add_args[], bitmap_args[], bitmap_merge_args[], view_create_args[];
int stage_abort(struct staging *t, JsonObject *data, GError **err);
int stage_bitmap_add(struct staging *t, JsonObject *data, GError **err);
int stage_bitmap_remove(struct staging *t, JsonObject *data, GError **err);
int stage_bitmap_clear(struct staging *t, JsonObject *data, GError **err);
int stage_bitmap_enable(struct staging *t, JsonObject *data, GError **err);
int stage_bitmap_disable(struct staging *t, JsonObject *data, GError **err);
int stage_bitmap_merge(struct staging *t, JsonObject *data, GError **err);
int stage_view_create(struct staging *t, JsonObject *data, GError **err);

/* BlockDirtyBitmapOrStr, which several commands take. */
extern const struct arg bitmap_or_string;

/* ---- commands, by family; signatures as in struct qmp_command ---- */

#define CONTROL_COMMAND(name)                                                                      \
    int name(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)

CONTROL_COMMAND(cmd_query_version);
CONTROL_COMMAND(cmd_query_commands);
CONTROL_COMMAND(cmd_query_name);
CONTROL_COMMAND(cmd_query_status);
CONTROL_COMMAND(cmd_quit);

extern const struct arg query_named_block_nodes_args[], block_resize_args[];
CONTROL_COMMAND(cmd_query_block);
CONTROL_COMMAND(cmd_query_named_block_nodes);
CONTROL_COMMAND(cmd_block_resize);

CONTROL_COMMAND(cmd_bitmap_sha256);

extern const struct arg transaction_args[];
CONTROL_COMMAND(cmd_transaction);

extern const struct arg nbd_server_start_args[], block_export_add_args[], block_export_del_args[];
CONTROL_COMMAND(cmd_nbd_server_start);
CONTROL_COMMAND(cmd_nbd_server_stop);
CONTROL_COMMAND(cmd_query_nbd_servers);
CONTROL_COMMAND(cmd_block_export_add);
CONTROL_COMMAND(cmd_block_export_del);
CONTROL_COMMAND(cmd_query_block_exports);

extern const struct arg view_delete_args[];
CONTROL_COMMAND(cmd_view_delete);
CONTROL_COMMAND(cmd_query_views);

#endif
