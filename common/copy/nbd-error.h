/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors of NBD sources and targets. Any thread. */
#ifndef COMMON_COPY_NBD_ERROR_H
#define COMMON_COPY_NBD_ERROR_H

#include <glib.h>

enum source_nbd_error {
    SOURCE_NBD_ERROR_UNREACHABLE, /* no server, or it went away and did not come back */
    SOURCE_NBD_ERROR_NO_EXPORT,
    SOURCE_NBD_ERROR_NO_CONTEXT, /* the message names those that there are */
    SOURCE_NBD_ERROR_CHANGED, /* the server came back with another size, or without the context */
    SOURCE_NBD_ERROR_FAILED,
    SOURCE_NBD_ERROR_CANCELLED, /* by cancel, or by the descriptor that interrupts connecting */
    SOURCE_NBD_ERROR_TLS, /* the server is there, and one side does not take the other's certificate or key */
};
#define SOURCE_NBD_ERROR source_nbd_error_quark()
GQuark source_nbd_error_quark(void);

/* Set *err (if err is not NULL) to a printf message. Returns -1. */
int source_nbd_fail(GError **err, enum source_nbd_error code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* What libnbd says of its call that has just failed on this thread. libnbd's, until its next call. */
const char *source_nbd_reason(void);

/* The same as source_nbd_fail, with what libnbd says of its call that has just failed on this thread. */
int source_nbd_fail_libnbd(GError **err, enum source_nbd_error code);

#endif
