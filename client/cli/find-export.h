/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the server's exports are to be read. One thread. */
#ifndef CLIENT_CLI_FIND_EXPORT_H
#define CLIENT_CLI_FIND_EXPORT_H

#include "client/cli/client.h"

/* The NBD URI of an export, asked for at the control socket. A socket that serves the disks is
 * chosen first, because it serves all exports whose name is not a disk's, too. The caller g_frees
 * it. NULL and *err. */
char *find_export(struct client *c, const char *export, GError **err);

/* Where *error says that there is no such export, and the server has a view of that name, say so
 * instead: it has to be exported first. Is it so? */
bool find_export_explain(struct client *c, const char *export, GError **error);

#endif
