/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A synchronous QMP client on a Unix socket. One thread.
 *
 * Errors are CLIENT_ERROR: UNREACHABLE where there is no server or it goes away, COMMAND_NOT_FOUND
 * for that error class, FAILED for any other error, and for an answer that is not QMP. Where the
 * command has the signals blocked (client/base/interrupt.h), INTERRUPTED: one has come, and the server
 * has not answered for 5 seconds since then, or since the request.
 */
#ifndef CLIENT_QMP_QMP_H
#define CLIENT_QMP_QMP_H

#include "common/json/limits.h"

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/* The limits of a message from a server: lists of many thousand objects pass. */
extern const struct json_limits qmp_limits;

struct qmp;

/* Connect, read the greeting, negotiate. A server that takes longer than 10 seconds for it counts
 * as unreachable. NULL and *err. */
struct qmp *qmp_connect(const char *path, GError **err);
void qmp_close(struct qmp *q); /* q may be NULL */

/* The `version` object of the greeting; borrowed. Never NULL. */
JsonObject *qmp_version(const struct qmp *q);

/* Execute a command and wait for its reply, however long it takes; events that come before are
 * dropped. Takes over `arguments` (may be NULL). The return value, which the caller frees, or NULL
 * and *err. */
JsonNode *qmp_command(struct qmp *q, const char *name, JsonObject *arguments, GError **err);

/* The same with a request that the caller has written. */
JsonNode *qmp_request(struct qmp *q, const char *text, GError **err);

/* Whether each request has had its reply. Where that has not come, because of a signal, or what came is
 * no QMP, nobody knows whether the command is done; all later ones on this connection fail. */
bool qmp_in_step(const struct qmp *q);

/*
 * For a caller with a loop of its own, which waits for other things too: poll qmp_fd, call
 * qmp_receive where it is readable, then qmp_take_message as long as it returns 1, and
 * qmp_read_reply on each message. Replies come in the order of the requests, with events between
 * them.
 */
int qmp_fd(const struct qmp *q);
/* The text of a request, which the caller frees. Takes over `arguments` (may be NULL). */
char *qmp_request_text(const char *name, JsonObject *arguments);
/* Send a request and do not wait for its reply. It waits for a server that does not read, up to 10
 * seconds. 0, or -1 and *err. */
int qmp_send(struct qmp *q, const char *text, GError **err);
/* Take in what has come; it waits where nothing has. 0, or -1 and *err. */
int qmp_receive(struct qmp *q, GError **err);
/* Take a message that has come whole: 1 and *message, which the caller unrefs; 0 if there is none;
 * -1 and *err. */
int qmp_take_message(struct qmp *q, JsonObject **message, GError **err);
/* What a message is: 1 a reply, and *value, which the caller frees; 0 an event; -1 and *err: the
 * error that the server has replied with, or what is wrong with the message. */
int qmp_read_reply(const struct qmp *q, JsonObject *message, JsonNode **value, GError **err);

#endif
