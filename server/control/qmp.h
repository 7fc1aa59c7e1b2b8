/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What happens to one request: envelope, negotiation, look-up, arguments, command, reply. No I/O.
 */
#ifndef CONTROL_QMP_H
#define CONTROL_QMP_H

#include "server/control/args.h"

#include <glib.h>
#include <stdbool.h>

struct qmp_command;

/* One client's session. */
struct qmp_session {
    const struct qmp_command *commands; /* ends with a name of NULL */
    void *context;                      /* the commands' own */
    bool negotiated;                    /* qmp_capabilities has succeeded */
};

/* A command that runs: what its function gets. */
struct qmp_call {
    struct qmp_session *session;
    const struct qmp_command *command;
};

struct qmp_command {
    const char *name;
    const struct arg *args;
    /* `args` have been checked. 0 and *value, the value of `return` (left NULL: {}); or -1 and
     * *err, and nothing has changed. */
    int (*run)(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err);
};

/* Run the request whose text is `text` and append the reply to `out`, with its CRLF. `members` and
 * `id` (text of JSON, "" if none) as json_stream.h has them. */
void qmp_handle(struct qmp_session *session, const GString *text, size_t members, const GString *id,
                GString *out);

/* Append the greeting; an error reply without an id; an event, whose data may be NULL and is
 * consumed. */
void qmp_greeting(GString *out);
void qmp_error(GString *out, const GError *error);
void qmp_event(GString *out, const char *name, JsonObject *data, int64_t time_usec);

/* The version object of the greeting and of query-version. */
JsonNode *qmp_version(void);
/* A node that holds `object` and takes it over: what commands return. */
JsonNode *qmp_object(JsonObject *object);
JsonNode *qmp_array(JsonArray *array);

/* The command qmp_capabilities, which belongs to every table: what it does is the session's. */
extern const struct arg qmp_capabilities_args[];
int qmp_capabilities(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err);

#endif
