/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/forward-control.h"
#include "client/base/error.h"

int forward_control(struct client *c, struct remote *remote, GError **err)
{
    const char *socket;

    if (!c->control || *c->control != '/')
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "--ssh needs -C SOCKET, the path of the control socket on that host");
    socket = remote_socket(remote, c->control, err);
    if (!socket)
        return -1;
    g_free(c->control);
    c->control = g_strdup(socket);
    return 0;
}
