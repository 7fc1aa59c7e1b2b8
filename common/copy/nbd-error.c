/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/nbd-error.h"

#include <libnbd.h>
#include <string.h>

GQuark source_nbd_error_quark(void)
{
    return g_quark_from_static_string("source-nbd-error-quark");
}

int source_nbd_fail(GError **err, enum source_nbd_error code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (err)
        *err = g_error_new_valist(SOURCE_NBD_ERROR, (int)code, format, args);
    va_end(args);
    return -1;
}

const char *source_nbd_reason(void)
{
    const char *why = nbd_get_error();
    const char *rest = why && g_str_has_prefix(why, "nbd_") ? strstr(why, ": ") : NULL;

    /* It begins with the name of a function. */
    if (rest)
        return rest + 2;
    return why ? why : "libnbd failed";
}

int source_nbd_fail_libnbd(GError **err, enum source_nbd_error code)
{
    return source_nbd_fail(err, code, "%s", source_nbd_reason());
}
