/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What happens to one request: envelope, negotiation, look-up, arguments, command, reply. No I/O.
 *
 * A command answers at once, or later, when what it has set in motion is done. Until then its call
 * is open, and its client runs no other command: the commands of one client are answered in order.
 * Main thread only.
 */
#ifndef CONTROL_QMP_H
#define CONTROL_QMP_H

#include "server/control/args.h"

#include <glib.h>
#include <stdbool.h>

struct action;
struct qmp_call;

/* All that is to be said of a command. */
struct qmp_command {
    const char *name;
    const char *summary; /* what it does: the sentence that its section in nbdfleece-qmp(7) begins
                            with */
    const struct arg *args;
    /* One of these two; `args` have been checked.
     * `run` answers by what it returns. 0 and *value, the value of `return` (left NULL: {}); or -1
     * and *err, and nothing has changed. */
    int (*run)(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err);
    /* `start` answers with qmp_call_return or qmp_call_fail, exactly once, before it returns or at
     * any time later. `args` live until then. */
    void (*start)(struct qmp_call *call, JsonObject *args);
    const struct action
        *action; /* what it is inside a transaction (transaction.h); NULL: nothing */
};

/* One client. The owner sets all but the last two. */
struct qmp_client {
    const struct qmp_command *const
        *commands;   /* tables, each ends with a name of NULL; then NULL */
    void *context;   /* the commands' own; outlives their calls */
    bool negotiated; /* qmp_capabilities has succeeded */
    GString *out;    /* replies are appended to it */
    /* Called when the open call has been answered after qmp_handle had returned: the reply is in
     * `out`. The next request may be handled, but not before this function has returned. */
    void (*answered)(void *opaque);
    void *opaque;

    struct qmp_call *open; /* the call that has not been answered yet; NULL: none */
    bool handling;         /* inside qmp_handle */
};

/* A command that runs. It frees itself when it is answered. */
struct qmp_call {
    struct qmp_client *client; /* NULL: it has gone, and nobody waits for the answer any more */
    void *context;             /* the client's */
    const struct qmp_command *command;
    JsonObject *args;
    GString *id; /* text of JSON; "": none */
};

/* Answer that the command succeeded. `value`, the value of `return`, is taken over; NULL: {}. */
void qmp_call_return(struct qmp_call *call, JsonNode *value);
/* Answer that the command failed. `error` stays the caller's. */
void qmp_call_fail(struct qmp_call *call, const GError *error);

/* Run the request whose text is `text`. Its reply, with CRLF, is in client->out when this returns,
 * or client->open is set. No call is open before. `members` and `id` (text of JSON, "" if none) as
 * common/json/stream.h has them. */
void qmp_handle(struct qmp_client *client, const GString *text, size_t members, const GString *id);
/* The command of that name in `commands`; NULL: there is none. */
const struct qmp_command *qmp_find(const struct qmp_command *const *commands, const char *name);
/* The client goes. What its open call does goes on; its answer is dropped. */
void qmp_client_leave(struct qmp_client *client);

/* Append the greeting; an error reply without an id; an event, whose data are taken over and may be
 * NULL. */
void qmp_greeting(GString *out);
void qmp_error(GString *out, const GError *error);
void qmp_event(GString *out, const char *name, JsonObject *data, int64_t time_usec);

/* The version object of the greeting and of query-version. */
JsonNode *qmp_version(void);
/* A node that holds `object` and takes it over: what commands return. */
JsonNode *qmp_object(JsonObject *object);
JsonNode *qmp_array(JsonArray *array);

/* The command qmp_capabilities, which every client needs, in a table of its own. */
extern const struct qmp_command qmp_negotiation[];

#endif
