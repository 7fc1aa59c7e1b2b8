/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/error.h"

#include <stdarg.h>
#include <stdlib.h>

GQuark fleece_error_quark(void)
{
    return g_quark_from_static_string("fleece-error-quark");
}

int fail(GError **err, const char *format, ...)
{
    if (err) {
        va_list args;

        va_start(args, format);
        *err = g_error_new_valist(FLEECE_ERROR, FLEECE_ERROR_GENERIC, format, args);
        va_end(args);
    }
    return -1;
}

int fail_errno(GError **err, int error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    return fail(err, "%s: %s", message, g_strerror(abs(error)));
}
