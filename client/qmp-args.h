/* SPDX-License-Identifier: BSD-3-Clause */
/* KEY=VALUE words of a command line as the arguments of a QMP command. Pure. */
#ifndef CLIENT_QMP_ARGS_H
#define CLIENT_QMP_ARGS_H

#include <glib.h>
#include <json-glib/json-glib.h>

/*
 * `words` (up to a NULL) as one object. A dot in KEY makes nested objects. A VALUE that is a JSON
 * number, boolean, string in double quotes, array or object is that; any other is a string as it
 * stands. A key given twice, or as both value and object, is an error. NULL and *err
 * (CLIENT_ERROR_USAGE).
 */
JsonObject *qmp_args_parse(char *const *words, GError **err);

#endif
