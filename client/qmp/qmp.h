/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A synchronous QMP client on a Unix socket. One thread.
 *
 * Errors are CLIENT_ERROR: UNREACHABLE where there is no server or it goes away, COMMAND_NOT_FOUND
 * for that error class, FAILED for every other answer, also one that is not QMP.
 */
#ifndef CLIENT_QMP_QMP_H
#define CLIENT_QMP_QMP_H

#include "common/json/limits.h"

#include <glib.h>
#include <json-glib/json-glib.h>

/* Of a message from a server; lists of many thousand objects are read. */
extern const struct json_limits qmp_limits;

struct qmp;

/* Connect, read the greeting, negotiate; a server that lets any of it wait for 10 seconds counts as
 * unreachable. NULL and *err. */
struct qmp *qmp_connect(const char *path, GError **err);
void qmp_close(struct qmp *q); /* NULL is nothing */

/* The `version` object of the greeting; borrowed. Never NULL. */
JsonObject *qmp_version(const struct qmp *q);

/* Execute a command and wait for its reply, however long it takes; events that come before are
 * dropped. Takes over `arguments` (may be NULL). The return value, which the caller frees, or NULL
 * and *err. */
JsonNode *qmp_command(struct qmp *q, const char *name, JsonObject *arguments, GError **err);

/* The same with a request that the caller has written. */
JsonNode *qmp_request(struct qmp *q, const char *text, GError **err);

/* For a caller that waits for events itself: the socket to poll; what to do when it is readable (0,
 * or -1 and *err); and to take a message that has come whole: 1 and *message, which the caller
 * frees, 0 if none is there, -1 and *err. */
int qmp_fd(const struct qmp *q);
int qmp_receive(struct qmp *q, GError **err);
int qmp_take_message(struct qmp *q, JsonObject **message, GError **err);

#endif
