/* SPDX-License-Identifier: BSD-3-Clause */
/* A control socket on another host. */
#ifndef CLIENT_CLI_FORWARD_CONTROL_H
#define CLIENT_CLI_FORWARD_CONTROL_H

#include "client/cli/client.h"
#include "client/repo/remote.h"

/* -C of the command line is a path on the remote's host: forward that socket, and let commands use what
 * leads to it, as long as the remote is there. 0, or -1 and *err. */
int forward_control(struct client *c, struct remote *remote, GError **err);

#endif
