/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors that a person will read travel as GError: domain FLEECE_ERROR, a code that is the QMP
 * error class, and a message that names what, which object, and why. Errors of the data path are
 * negative errno values.
 */
#ifndef COMMON_UTIL_ERROR_H
#define COMMON_UTIL_ERROR_H

#include <glib.h>

#define FLEECE_ERROR fleece_error_quark()
GQuark fleece_error_quark(void);

enum fleece_error {
    FLEECE_ERROR_GENERIC, /* GenericError */
    FLEECE_ERROR_COMMAND_NOT_FOUND,
    FLEECE_ERROR_DEVICE_NOT_ACTIVE,
    FLEECE_ERROR_DEVICE_NOT_FOUND,
};

/* Set *err (if err is not NULL) to a GenericError with a printf message. Returns -1, so that
 * `return fail(err, ...)` works. */
int fail(GError **err, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The same, with ": " and the text of `error` at the end, which is an errno value of either sign.
 */
int fail_errno(GError **err, int error, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
