/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: QMP over a Unix socket, run by the main loop.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "server/registry/registry.h"

struct control;

/* What the nbd-server-start family may do; start/ fills it in, so that control/
 * need not know nbd/. */
struct control_nbd {
    /* Open a listener for `nbd-server-start`. 0, or -1 and *err. handshake: seconds. */
    int (*start)(void *opaque, const char *unix_path, const char *host, const char *port, int fd,
                 unsigned handshake_max_seconds, unsigned max_connections, GError **err);
    /* Close that listener and cut off its clients. From now on it does not run any more, and
     * another may be started. `stopped` is called once, from any thread, when all its clients have
     * gone. */
    void (*stop)(void *opaque, void (*stopped)(void *stopped_opaque), void *stopped_opaque);
    /* Does any NBD listener run (also the command line's)? Is one of nbd-server-start's running? */
    bool (*any_running)(void *opaque);
    bool (*started)(void *opaque);
    /* The NBD URIs of the listening sockets of that scope, as a client on this machine reaches
     * them, with no export named: strings, borrowed until a listener begins or ends. */
    const GPtrArray *(*uris)(void *opaque, enum export_scope scope);
    /* Can clients use TLS? Does the server then know their names? */
    bool (*tls)(void *opaque);
    bool (*tls_names_clients)(void *opaque);
    void *opaque;
};

/* Listen at `path` (created with mode 0600; refused in a folder that others may write unless it is
 * sticky and ours). The main context serves it. */
struct control *control_new(struct server *s, const struct control_nbd *nbd, const char *path,
                            GError **err);
/* The server begins to end: SHUTDOWN, to all monitors, after all events that came before. They are
 * served on until control_free. Without this, control_free tells it. */
void control_tell_shutdown(struct control *c);
/* Ends all monitors; removes the socket file. Pending events are sent as far as that goes without
 * blocking. */
void control_free(struct control *c);

#endif
