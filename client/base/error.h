/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fleecectl's errors: a GError whose message is one sentence, and whose code says which exit code
 * it leads to. Errors of other domains lead to CLIENT_FAILED. Any thread.
 */
#ifndef CLIENT_BASE_ERROR_H
#define CLIENT_BASE_ERROR_H

#include <glib.h>

#define CLIENT_ERROR client_error_quark()
GQuark client_error_quark(void);

/* Exit codes: fleecectl(1), EXIT STATUS. */
enum {
    CLIENT_DONE = 0,
    CLIENT_FAILED = 1,
    CLIENT_USAGE = 2,
    CLIENT_PARTLY = 3,
    CLIENT_UNREACHABLE = 4,
};

enum client_error {
    CLIENT_ERROR_FAILED,            /* the server said no, or something went wrong here */
    CLIENT_ERROR_COMMAND_NOT_FOUND, /* the server does not know the command */
    CLIENT_ERROR_NO_EXPORT,         /* the NBD server has no export of that name */
    CLIENT_ERROR_USAGE,             /* the command line is wrong */
    CLIENT_ERROR_PARTLY,            /* some of it is done */
    CLIENT_ERROR_UNREACHABLE,       /* there is no server, or it has gone away */
    CLIENT_ERROR_INTERRUPTED,       /* a signal has ended it, in order */
    CLIENT_ERROR_TLS,               /* certificates do not fit; main.c adds which option has them */
};

/* Set *err (if err is not NULL) to a printf message. Returns -1, so that `return client_fail(...)`
 * works. */
int client_fail(GError **err, enum client_error code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The exit code that an error leads to. */
int client_error_exit_code(const GError *error);

#endif
