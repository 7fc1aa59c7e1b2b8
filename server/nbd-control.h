/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd-server-start and nbd-server-stop: what control/ asks for and nbd/ does. */
#ifndef SERVER_NBD_CONTROL_H
#define SERVER_NBD_CONTROL_H

#include "server/control/control.h"
#include "server/nbd/nbd.h"

struct nbd_control {
    struct nbd_server *nbd;
    bool has_listener;             /* the command line's: clients can connect anyhow */
    struct nbd_listener *listener; /* nbd-server-start's, NULL: none runs */
};

/* The functions, for control_new(); `nc` outlives them. */
struct control_nbd nbd_control_functions(struct nbd_control *nc);

#endif
