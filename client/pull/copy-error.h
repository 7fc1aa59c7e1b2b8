/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors of sources and targets as fleecectl's. Any thread. */
#ifndef CLIENT_PULL_COPY_ERROR_H
#define CLIENT_PULL_COPY_ERROR_H

#include <glib.h>

/* Where *err is an error of an NBD source or target, make it one of domain CLIENT_ERROR, which leads
 * to the right exit code, with the same message. *err may be NULL. */
void copy_error_convert(GError **err);

#endif
