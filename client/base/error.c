/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/error.h"

G_DEFINE_QUARK(fleecectl - error - quark, client_error)

int client_fail(GError **err, enum client_error code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (err)
        *err = g_error_new_valist(CLIENT_ERROR, code, format, args);
    va_end(args);
    return -1;
}

int client_error_exit_code(const GError *error)
{
    if (error->domain != CLIENT_ERROR)
        return CLIENT_FAILED;
    switch ((enum client_error)error->code) {
    case CLIENT_ERROR_USAGE:
        return CLIENT_USAGE;
    case CLIENT_ERROR_PARTLY:
        return CLIENT_PARTLY;
    case CLIENT_ERROR_UNREACHABLE:
    case CLIENT_ERROR_TLS:
        return CLIENT_UNREACHABLE;
    case CLIENT_ERROR_FAILED:
    case CLIENT_ERROR_INTERRUPTED:
    case CLIENT_ERROR_COMMAND_NOT_FOUND:
    case CLIENT_ERROR_NO_EXPORT:
        break;
    }
    return CLIENT_FAILED;
}
