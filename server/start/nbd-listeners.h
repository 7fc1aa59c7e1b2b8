/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd-server-start and nbd-server-stop: what control/ asks for and nbd/ does. Main thread. */
#ifndef START_NBD_LISTENERS_H
#define START_NBD_LISTENERS_H

#include "server/control/control.h"
#include "server/nbd/nbd-server.h"
#include "server/start/options.h"

#include <sys/stat.h>

struct nbd_listeners {
    struct nbd_server *nbd;
    enum options_tls tls; /* the command line's, for all listeners */
    bool tls_names_clients;
    bool ending;
    bool has_listener;             /* the command line's: clients can connect anyhow */
    struct nbd_listener *listener; /* nbd-server-start's, NULL: none runs */
    GPtrArray *uris;               /* strings: the command line's sockets, no export named */
    GPtrArray *listener_uris;      /* strings: listener's */
    char *unix_path;               /* listener's socket, absolute, removed with it; or NULL */
    struct stat unix_file;         /* what was made there */
};

/* No listener runs yet. */
void nbd_listeners_init(struct nbd_listeners *l);
/* The server ends, and with it all listeners: none is started any more, none is known. */
void nbd_listeners_end(struct nbd_listeners *l);
/* Free what it holds, and remove the file of nbd-server-start's socket. */
void nbd_listeners_clear(struct nbd_listeners *l);

/* Note the URIs of listening sockets, before they are handed to nbd_listen(). */
void nbd_listeners_note_uris(const struct nbd_listeners *l, GPtrArray *uris, const GArray *fds);

/* The functions, for control_new(); `l` outlives them. */
struct control_nbd nbd_listeners_functions(struct nbd_listeners *l);

#endif
