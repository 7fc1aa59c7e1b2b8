/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: QMP over a Unix socket, run by the main loop. Main thread.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "server/registry/registry.h"

struct backup;
struct control;

/* What the commands about the NBD server call. start/ fills it in, so that control/ need not know
 * nbd/. */
struct control_nbd {
    /* Open the listener of nbd-server-start: at `unix_path`, or else at the TCP port `port` of
     * `host` (NULL: all addresses), or else on the inherited socket `fd`. 0, or -1 and *err. */
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

/* `backup` may be NULL: then there are no commands of backups. Listen at `path` (socket.h says which paths are refused). The default main context serves it.
 * NULL and *err on failure. */
struct control *control_new(struct server *s, struct backup *backup, const struct control_nbd *nbd,
                            const char *path, GError **err);
/* The server begins to end: all monitors get the event SHUTDOWN, after all events that came before.
 * They are still served until control_free, which sends the event if this was not called. */
void control_tell_shutdown(struct control *c);
/* End all monitors, and remove the socket's file. Commands that are not done are given up first;
 * this takes two seconds at most. What is still to be sent is sent as far as that does not block.
 * NULL is allowed. */
void control_free(struct control *c);

#endif
