/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of control/ share.
 *
 * Commands come in families, a file each (cmd-*.c). All that is said of a command (name, summary,
 * arguments, function) is said once, in its row of the family's table. commands.c joins the tables.
 *
 * The order of commands: those of one monitor are answered in order. Commands of different
 * monitors do not wait for each other, except that those which change the bitmaps, the views or the
 * size of a disk, or begin to use them, have turns on that disk (server/registry/turn.h): the later
 * one is checked and carried out when the earlier one is done. So a transaction stays all or
 * nothing, and commands on other disks go on.
 */
#ifndef CONTROL_CONTROL_PRIVATE_H
#define CONTROL_CONTROL_PRIVATE_H

#include "common/util/log-limit.h"
#include "server/control/control.h"
#include "server/control/lookup.h"
#include "server/control/qmp.h"

/* What commands work on: the context of a struct qmp_client. */
struct control {
    struct server *server;
    struct backup *backup; /* NULL in tests that have none */
    struct control_nbd nbd;
    bool quit;                    /* the command `quit` has been given */
    struct actual_sizes *sizes;   /* of images (cmd-nodes.c); NULL: not asked for yet */
    struct nbd_stop *nbd_stop;    /* nbd-server-stop that is not done (cmd-nbd-server.c); or NULL */
    struct log_limit refused;     /* lines about monitors that are refused */
    struct log_limit lost_events; /* lines about monitors that read too slowly */
};

static inline struct control *call_control(struct qmp_call *call)
{
    return call->context;
}

static inline struct server *call_server(struct qmp_call *call)
{
    return call_control(call)->server;
}

static inline struct backup *call_backup(struct qmp_call *call)
{
    return call_control(call)->backup;
}

/* nbd-server-start's listener runs, and is not about to be stopped. */
static inline bool control_nbd_started(struct control *c)
{
    return c->nbd.started(c->nbd.opaque) && !c->nbd_stop;
}

/* cmd-nbd-server.c: the server ends, and an nbd-server-stop that is not done does not touch `c` any
 * more. */
void control_forget_nbd_stop(struct control *c);

/* Append the event as a line of QMP. (events.c) */
void control_format_event(GString *line, const struct server_event *event);

/* ---- the families of commands, a file each: cmd-*.c ---- */

extern const struct qmp_command server_commands[], node_commands[], bitmap_commands[],
    transaction_commands[], nbd_server_commands[], export_commands[], view_commands[],
    stats_commands[], checkpoint_commands[], backup_commands[];

/* All of them, for a qmp_client. */
extern const struct qmp_command *const control_commands[];

#endif
