/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/pull/copy-error.h"
#include "client/base/error.h"
#include "common/copy/source-nbd.h"

static enum client_error code_of(enum source_nbd_error code)
{
    switch (code) {
    case SOURCE_NBD_ERROR_UNREACHABLE:
        return CLIENT_ERROR_UNREACHABLE;
    case SOURCE_NBD_ERROR_TLS:
        return CLIENT_ERROR_TLS;
    case SOURCE_NBD_ERROR_NO_EXPORT:
        return CLIENT_ERROR_NO_EXPORT;
    case SOURCE_NBD_ERROR_NO_CONTEXT:
    case SOURCE_NBD_ERROR_CHANGED:
    case SOURCE_NBD_ERROR_CANCELLED:
    case SOURCE_NBD_ERROR_FAILED:
        break;
    }
    return CLIENT_ERROR_FAILED;
}

void copy_error_convert(GError **err)
{
    GError *error = *err;

    if (!error || error->domain != SOURCE_NBD_ERROR)
        return;
    *err = g_error_new_literal(CLIENT_ERROR, code_of(error->code), error->message);
    g_error_free(error);
}
