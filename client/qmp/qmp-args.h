/* SPDX-License-Identifier: BSD-3-Clause */
/* KEY=VALUE words of a command line as the arguments of a QMP command. Pure. */
#ifndef CLIENT_QMP_QMP_ARGS_H
#define CLIENT_QMP_QMP_ARGS_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/*
 * `words` (up to a NULL) as one object. A dot in KEY makes nested objects. A VALUE that is a JSON
 * number, boolean, string in double quotes, array or object is taken as that. It is taken as a
 * string if KEY is in the set `texts` (may be NULL), if it is a number too large, or if it is
 * anything else. A key given twice, or as both value and object, is an error. NULL and *err
 * (CLIENT_ERROR_USAGE).
 */
JsonObject *qmp_args_parse(char *const *words, GHashTable *texts, GError **err);

/*
 * Only the server knows what a word means: name=2026 may be a number or a name. It refuses the
 * wrong one before the command does anything, with `Invalid parameter type for 'KEY', expected:
 * string`.
 *
 * If `error` is that, and KEY is one of the words and is not in `texts` yet, KEY is added to
 * `texts` (owned strings) and the function returns true: the command may be tried again. Else it
 * returns false. If KEY is inside of a VALUE in JSON, *hint says how a string is written there (a
 * constant, else NULL).
 */
bool qmp_args_learn(char *const *words, const char *error, GHashTable *texts, const char **hint);

#endif
