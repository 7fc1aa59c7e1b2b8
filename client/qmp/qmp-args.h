/* SPDX-License-Identifier: BSD-3-Clause */
/* KEY=VALUE words of a command line as the arguments of a QMP command. Pure. */
#ifndef CLIENT_QMP_QMP_ARGS_H
#define CLIENT_QMP_QMP_ARGS_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/*
 * `words` (up to a NULL) as one object. A dot in KEY makes nested objects. A VALUE that is a JSON
 * number, boolean, string in double quotes, array or object is that, unless KEY is in the set
 * `texts` (may be NULL), or too large; any other is a string as it stands. A key given twice, or as
 * both value and object, is an error. NULL and *err (CLIENT_ERROR_USAGE).
 */
JsonObject *qmp_args_parse(char *const *words, GHashTable *texts, GError **err);

/*
 * What words mean is known to the server alone: name=2026 may be a number or a name. It says so in
 * its error, `Invalid parameter type for 'KEY', expected: string`, before a command has done
 * anything. If `error` is that and KEY one of the words: it is put into `texts` (owned strings),
 * and the command may be tried again; else false. What is inside of a VALUE in JSON stays as
 * written: then *hint, constant, says how a string is written there (else NULL).
 */
bool qmp_args_learn(char *const *words, const char *error, GHashTable *texts, const char **hint);

#endif
