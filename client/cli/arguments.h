/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A QMP command's arguments from the words of the command line. An option and the member of
 * `arguments` that it becomes have the same name. Pure.
 */
#ifndef CLIENT_CLI_ARGUMENTS_H
#define CLIENT_CLI_ARGUMENTS_H

#include <json-glib/json-glib.h>

/* Add what the option `name` was given, `text`; nothing if it is NULL. The last two: 0, or -1 and
 * *err, which is CLIENT_ERROR_USAGE, if it is no size, or no whole number of seconds. */
void arguments_add_text(JsonObject *arguments, const char *name, const char *text);
int arguments_add_size(JsonObject *arguments, const char *name, const char *text, GError **err);
int arguments_add_seconds(JsonObject *arguments, const char *name, const char *text, GError **err);

#endif
